// Makes a part of the page a stop of the tabulator only while it scrolls: one that shows all needs none.
(() => {
  const parts = document.querySelectorAll('main [tabindex="0"]:not(tr)');
  const tell = () => {
    for (const each of parts) {
      const scrolls = each.scrollWidth > each.clientWidth || each.scrollHeight > each.clientHeight;
      if (scrolls) each.setAttribute("tabindex", "0");
      else if (each !== document.activeElement) each.removeAttribute("tabindex");
    }
  };
  tell();
  const watching = new ResizeObserver(tell);
  for (const each of parts) watching.observe(each);
})();
