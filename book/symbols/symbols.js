// Explains a symbol in a formula where the pointer rests on it, in the words of the notation page.
(() => {
  // The characters of a piece of a formula: MathJax keeps their code points in class names.
  const characters = element =>
    [...element.querySelectorAll("mjx-c")].map(c => {
      const code = [...c.classList].map(name => /^mjx-c([0-9A-F]+)$/.exec(name)).find(Boolean);
      return code ? String.fromCodePoint(parseInt(code[1], 16)).normalize("NFKC") : "";
    }).join("").replace(/\u2032/g, "'").replace(/\u22C6|\*/g, "").replace(/ϵ/g, "ε").replace(/ϕ/g, "φ");

  function explain() {
    const chapter = Number((/notebooks\/(\d\d)_/.exec(location.pathname) || [])[1] || 0);
    const parts = chapter === 17 ? ["17", "all", "I, II"]
      : chapter >= 11 && chapter <= 15 ? ["all", "III"]
      : chapter ? ["all", "I, II"] : ["all", "I, II", "III", "17"];
    const meaning = {};
    for (const part of parts)
      for (const symbol of window.tlnbSymbols)
        if (symbol.part === part) meaning[symbol.key] ??= symbol.meaning;
    const tell = (element, key) => {
      if (!(key in meaning)) return false;
      element.setAttribute("title", `${key.replace("_", "\u200A")}: ${meaning[key]}`);
      element.classList.add("explained");
      return true;
    };
    for (const formula of document.querySelectorAll(".bd-article mjx-container")) {
      for (const element of formula.querySelectorAll("mjx-msub, mjx-msubsup")) {
        const base = element.firstElementChild;
        const index = element.querySelector(":scope > mjx-script");
        if (!base || !index) continue;
        const lower = element.tagName === "MJX-MSUBSUP" ? index.lastElementChild : index;
        tell(element, `${characters(base)}_${characters(lower)}`);
      }
      for (const element of formula.querySelectorAll("mjx-mi"))
        if (!element.closest("[title]") && !element.closest("mjx-msub, mjx-msubsup"))
          tell(element, characters(element));
    }
  }

  window.addEventListener("load", () => {
    if (window.MathJax && MathJax.startup) MathJax.startup.promise.then(explain);
  });
})();
