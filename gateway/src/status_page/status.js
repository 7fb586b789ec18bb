"use strict";
// Lets the page follow along: it is fetched again, and what has changed is put in place. Without this, reload it.
(() => {
  const parts = ["now", "summary", "pictures", "sites-count", "site-rows", "endpoints-count", "endpoint-rows", "event-rows"];
  const pauseMs = 5000;
  const patienceMs = 10000;
  const state = document.getElementById("live-state");
  const search = document.getElementById("q");
  let asking = null;
  let timer = 0;

  const say = (text) => {
    if (state.textContent !== text) state.textContent = text;
  };

  const replace = (fresh) => {
    for (const id of parts) {
      const [old, next] = [document.getElementById(id), fresh.getElementById(id)];
      if (old && next && old.innerHTML !== next.innerHTML) old.replaceChildren(...next.childNodes);
    }
  };

  const look = async () => {
    if (asking) asking.abort();
    clearTimeout(timer);
    const mine = new AbortController();
    asking = mine;
    const late = setTimeout(() => mine.abort(), patienceMs);
    try {
      const query = search.value ? "?q=" + encodeURIComponent(search.value) : "";
      const answer = await fetch("./" + query, { signal: mine.signal, cache: "no-store" });
      if (!answer.ok) throw new Error("status " + answer.status);
      replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      say("Follows along.");
    } catch {
      if (asking === mine) say("The gateway does not answer; what is shown is old.");
    }
    clearTimeout(late);
    if (asking === mine) {
      asking = null;
      timer = setTimeout(look, document.hidden ? 6 * pauseMs : pauseMs);
    }
  };

  search.form.addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  let typed = 0;
  search.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(look, 250);
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) look();
  });
  timer = setTimeout(look, pauseMs);
  say("Follows along.");
})();
