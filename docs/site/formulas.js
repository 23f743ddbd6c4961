// Typeset each formula of the page. What KaTeX cannot read is shown in red, and fails a test.

document.querySelectorAll(".arithmatex").forEach((element) => {
  const displayMode = element.tagName === "DIV";
  const text = element.textContent.trim().replace(/^\\[([]/, "").replace(/\\[)\]]$/, "");
  window.katex.render(text, element, { displayMode, throwOnError: false });
});
