// What is folded is unfolded on paper: hints, answers, solutions. Set-up cells are not.

const folded = "details:not([open]):not(.above-input)";
let opened = [];

window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll(`article ${folded}`)];
  for (const one of opened) one.open = true;
});
window.addEventListener("afterprint", () => {
  for (const one of opened) one.open = false;
});
