// The button of the other language leads to the heading that is being read, in the same tab.
const link = document.querySelector(".btn-language");
link.removeAttribute("target");
link.addEventListener("click", () => {
  const begun = [...document.querySelectorAll("article section[id]")].filter(
    (section) => section.getBoundingClientRect().top < innerHeight / 3,
  );
  link.hash = begun.length > 1 ? begun.at(-1).id : "";
});
