// A formula or a figure that is wider than its place scrolls there: by the arrow keys too, without
// a mouse.
{
  const wide = 'mjx-container[display="true"], div.cell_output';

  function reach() {
    for (const one of document.querySelectorAll(wide)) {
      if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
      else one.removeAttribute("tabindex");
    }
  }

  window.MathJax?.startup?.promise?.then(reach);
  window.addEventListener("load", reach);
  window.addEventListener("resize", reach);
  if (document.readyState === "complete") reach();
}
