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
// Buttons that copy a field. Without a secure context there is no clipboard: then the text is only marked.
function copyFrom(button) {
  const field = document.getElementById(button.dataset.copies);
  field.select();
  const done = () => { button.textContent = "Copied"; };
  const marked = () => { button.textContent = document.execCommand("copy") ? "Copied" : "Marked: press Ctrl+C"; };
  if (navigator.clipboard) navigator.clipboard.writeText(field.value).then(done, marked); else marked();
}
// A list of models to tick: all at once, narrowed by letters, and sent without what was not touched.
function prepareOffers(form) {
  const all = form.querySelector("[data-tick-all]"), letters = form.querySelector("[data-narrow]");
  if (!all) return;
  const rows = [...form.querySelectorAll("tbody tr")];
  all.parentElement.hidden = false;
  all.addEventListener("change", () => rows.forEach((row) => {
    const box = row.querySelector("[data-new]");
    if (box && !row.hidden) box.checked = all.checked;
  }));
  letters.hidden = rows.length < 12;
  letters.addEventListener("input", () => rows.forEach((row) => {
    row.hidden = !row.dataset.name.includes(letters.value.trim().toLowerCase());
  }));
  letters.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  form.addEventListener("submit", () => rows.forEach((row) => {
    const name = row.querySelector("[data-usual]");
    name.disabled = !row.querySelector("[name=tick]").checked;
  }));
}
// An account may take its time: say so, and ask it once.
function nowAsking(form) {
  const button = form.querySelector("button");
  const words = button.textContent;
  form.addEventListener("submit", () => { button.textContent = "Asking …"; button.setAttribute("aria-disabled", "true"); button.disabled = true; });
  addEventListener("pageshow", () => { button.textContent = words; button.disabled = false; button.removeAttribute("aria-disabled"); });
}
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-copies]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => copyFrom(button));
  });
  document.querySelectorAll(".offers form").forEach(prepareOffers);
  document.querySelectorAll(".asks form").forEach(nowAsking);
  addEventListener("pageshow", () => document.querySelectorAll("[data-usual]").forEach((name) => { name.disabled = false; }));
});
