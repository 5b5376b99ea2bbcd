// What the tests ask a page about; put into every page before its own scripts.
window.look = (() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const overflow = e => getComputedStyle(e).overflowX;

  return {
    // Formulas set, every image there.
    async settled() {
      if (window.MathJax) await MathJax.startup.promise;
      for (const image of document.images) image.loading = "eager";
      await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
    },

    unfold() {
      for (const fold of all("details")) fold.open = true;
      for (const name of ["toggle-hidden", "admonition-hidden"])
        for (const hidden of all("." + name)) hidden.classList.remove(name);
    },

    // A formula that could not be read, and one that was never set.
    failedFormulas() {
      const unread = all("mjx-merror, .MathJax_Error");
      const unset = all(".bd-article .math").filter(e => !e.querySelector("mjx-container"));
      return [...unread, ...unset].map(e => e.textContent);
    },

    // What reaches over the right edge and is in no box that scrolls or cuts on purpose.
    tooWide() {
      const edge = document.documentElement.clientWidth;
      const width = document.documentElement.scrollWidth;
      const found = width > edge + 1 ? [`the page is ${width} px wide`] : [];
      for (const e of all(".bd-article *")) {
        const box = e.getBoundingClientRect();
        if (!box.width || box.right <= edge + 1) continue;
        let around = e.parentElement;
        while (around && !/auto|scroll|hidden|clip/.test(overflow(around)))
          around = around.parentElement;
        if (!around || around === document.body || around === document.documentElement)
          found.push(`${e.tagName}.${e.className} reaches ${Math.round(box.right)} px`);
      }
      return found.slice(0, 5);
    },

    // Code and printed output with lines longer than their box; a bar excuses it on narrow screens.
    clipped(barExcuses) {
      return all(".bd-article pre")
        .filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1)
        .filter(e => !barExcuses || !/auto|scroll/.test(overflow(e)))
        .map(e => `${e.scrollWidth} in ${e.clientWidth} px: ` +
          e.textContent.split("\n").reduce((a, b) => b.length > a.length ? b : a));
    },

    images() {
      return all(".bd-article img, .bd-article svg[role=img]").map(
        e => [e.getAttribute("src") || e.id, e.alt ?? e.getAttribute("aria-label") ?? ""]);
    },

    bytes() {
      return ["navigation", "resource"].flatMap(kind => performance.getEntriesByType(kind))
        .reduce((sum, entry) => sum + entry.encodedBodySize, 0);
    },
  };
})();
