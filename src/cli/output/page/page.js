// Copies a command. Without a script the commands can be marked and copied by hand.
"use strict";
const said = document.getElementById("said");
const copied = (button) => {
  said.textContent = "Copied";
  button.textContent = "Copied";
  setTimeout(() => {
    button.textContent = "Copy";
    said.textContent = "";
  }, 1500);
};
const byHand = (node) => {
  const range = document.createRange();
  range.selectNodeContents(node);
  const marked = getSelection();
  marked.removeAllRanges();
  marked.addRange(range);
  return document.execCommand("copy");
};
for (const button of document.querySelectorAll("button.copy")) {
  const code = button.parentElement.querySelector("code");
  button.hidden = false;
  button.setAttribute("aria-label", "Copy the command " + code.textContent);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      copied(button);
    } catch {
      if (byHand(code)) copied(button);
    }
  });
}
