// Finds the element that a person means: arguments are how it is told and the words. Nothing when there is none.
const [how, words] = arguments;

const plain = (text) => (text || "").replace(/\s+/g, " ").trim();
const shown = (element) => element.checkVisibility({ visibilityProperty: true });
const first = (selector, fits) => [...document.querySelectorAll(selector)].find(fits) || null;

// What is read out for an element beside its own text.
const named = (element) => {
    const by = (element.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean);
    const told = by.map((id) => document.getElementById(id)).filter(Boolean).map((other) => plain(other.textContent));
    return told.join(" ") || plain(element.getAttribute("aria-label"));
};
// Without what a label holds beside its words, such as the field itself.
const labelText = (label) => {
    const copy = label.cloneNode(true);
    copy.querySelectorAll("input, select, textarea, output, button").forEach((inner) => inner.remove());
    return plain(copy.textContent);
};

const finders = {
    css: () => document.querySelector(words),
    link: () => first("a[href]", (a) => shown(a) && (plain(a.textContent) === words || named(a) === words)),
    button: () =>
        first("button, summary, [role=button], input[type=submit], input[type=button]", (button) =>
            shown(button) && [plain(button.textContent), plain(button.value), named(button)].includes(words)),
    // A field itself need not be visible: those for files and choices are often drawn otherwise.
    label: () => {
        const label = first("label", (label) => shown(label) && label.control && labelText(label) === words);
        return label ? label.control : first("input, select, textarea", (field) => named(field) === words);
    },
};

return finders[how]();
