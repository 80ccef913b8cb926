// A formula that is wider than its place scrolls there: by the arrow keys too, without a mouse.

function reach() {
  for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
}

window.MathJax?.startup?.promise?.then(reach);
window.addEventListener("resize", reach);
