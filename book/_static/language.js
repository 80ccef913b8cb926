// The button of the other language leads to the heading that is being read, in the same tab.
{
  const link = document.querySelector(".btn-language");
  const top = (section) => section.getBoundingClientRect().top;
  const sections = [...document.querySelectorAll("article section[id]")];
  link.removeAttribute("target");
  link.addEventListener("click", () => {
    const named = sections.filter(({ id }) => id === location.hash.slice(1));
    const inSight = named.find((section) => top(section) >= 0 && top(section) < innerHeight);
    const begun = sections.filter((section) => top(section) < innerHeight / 3);
    link.hash = (inSight ?? begun.slice(1).at(-1))?.id ?? "";
  });
}
