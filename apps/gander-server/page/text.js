// Shows a model's text: paragraphs, fenced code, `code` and **bold**. Everything becomes text nodes,
// so nothing a model writes is markup.

export function showText(element, text) {
  element.replaceChildren();
  text.split(/^```.*$/m).forEach((part, index) => {
    if (index % 2 === 1) {
      const block = document.createElement("pre");
      block.tabIndex = 0;  // so that a keyboard can scroll it
      block.append(code(part.replace(/^\n|\n$/g, "")));
      element.append(block);
      return;
    }
    for (const paragraph of part.split(/\n{2,}/)) {
      if (paragraph.trim() === "") continue;
      const p = document.createElement("p");
      addInline(p, paragraph.trim());
      element.append(p);
    }
  });
}

function code(text) {
  const element = document.createElement("code");
  element.textContent = text;
  return element;
}

function addInline(element, text) {
  for (const part of text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)) {
    if (part.length > 2 && part.startsWith("`")) {
      element.append(code(part.slice(1, -1)));
    } else if (part.length > 4 && part.startsWith("**")) {
      const bold = document.createElement("strong");
      bold.textContent = part.slice(2, -2);
      element.append(bold);
    } else {
      element.append(part);
    }
  }
}
