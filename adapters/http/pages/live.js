// Keeps the figures of the overview true while it is looked at.
(() => {
  const shown = document.querySelectorAll("[data-live]");
  const tell = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/pages/status", { headers: { Accept: "application/json" } });
      if (answer.status === 401) return void location.reload();
      if (!answer.ok) return;
      const status = await answer.json();
      for (const each of shown) {
        const value = status[each.dataset.live];
        if (value === undefined) continue;
        const text = typeof value === "number" ? value.toLocaleString("en") : value;
        if (each.textContent !== text) each.textContent = text;
      }
    } catch { /* the server restarts: the next time */ }
  };
  setInterval(tell, 2000);
})();
