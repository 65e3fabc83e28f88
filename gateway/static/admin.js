// Search boxes that select2 draws have no name of their own; each gets that of the field it stands for.
"use strict";
window.addEventListener("load", () => {
  document.querySelectorAll("select.select2-hidden-accessible").forEach((select) => {
    const label = document.querySelector(`label[for="${CSS.escape(select.id)}"]`);
    const name = select.getAttribute("aria-label") || (label ? label.textContent.trim() : select.name);
    const drawn = select.nextElementSibling;
    if (!drawn) return;
    drawn.querySelectorAll('[role="combobox"], [role="searchbox"]').forEach((box) => {
      box.removeAttribute("aria-labelledby");
      box.setAttribute("aria-label", name);
    });
  });
});
