// What select2 draws has no name of its own, and is drawn anew with each choice: name it after the field it stands for.
"use strict";
function nameBoxes() {
  document.querySelectorAll("select.select2-hidden-accessible + .select2").forEach((drawn) => {
    const select = drawn.previousElementSibling;
    const label = document.querySelector(`label[for="${CSS.escape(select.id)}"]`);
    const name = label ? label.textContent.replace("*", "").trim() : select.name;
    drawn.querySelectorAll('[role="combobox"]:not([aria-label]), [role="searchbox"]:not([aria-label])').forEach((box) => {
      box.removeAttribute("aria-labelledby");
      box.setAttribute("aria-label", name);
    });
    drawn.querySelectorAll(".select2-selection__clear:not([role])").forEach((cross) => {
      cross.setAttribute("role", "listitem");
    });
  });
}
document.addEventListener("DOMContentLoaded", () => {
  nameBoxes();
  new MutationObserver(nameBoxes).observe(document.body, { childList: true, subtree: true });
});
