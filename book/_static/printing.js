// What is folded is unfolded on paper: hints, answers, solutions, code.
{
  const folded = "details:not([open])";
  let opened = [];

  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(`article ${folded}`)];
    for (const one of opened) one.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
}
