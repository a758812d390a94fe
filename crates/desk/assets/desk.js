// What pages do beyond what they do without this: keep up to date, warn before the session ends, count characters, show how far a file is.
"use strict";
(() => {
  const body = document.body;
  const byId = (id) => document.getElementById(id);
  const show = (id, shown) => { const one = byId(id); if (one) one.hidden = !shown; };

  // Changes, for as long as the page is looked at: browsers hold only so many connections to one address.
  let source = null;
  let over = false;
  let told = body.dataset.told;
  // Lists are asked for anew; what someone reads stays as it is, and says that there is more.
  const changed = (things) => {
    const concerns = (names) => names.split(" ").some((name) => things.some((thing) => thing === "anything" || thing === name || thing.split(":")[0] === name));
    for (const list of document.querySelectorAll("[data-shows]")) if (concerns(list.dataset.shows)) htmx.trigger(list, "desk:changed");
    for (const note of document.querySelectorAll("[data-news-of]")) if (concerns(note.dataset.newsOf)) note.hidden = false;
    if (concerns("link")) fetchLink();
  };
  const listen = () => {
    if (source || over || !body.dataset.live || document.visibilityState !== "visible") return;
    source = new EventSource(body.dataset.live + "?told=" + told);
    source.addEventListener("changes", (event) => {
      show("live-lost", false);
      told = event.lastEventId;
      body.dataset.connected = "yes";
      if (event.data !== "-") changed(event.data.split("\n"));
    });
    // What was read leaves the screen with the session. What was typed stays, and is kept for its official when it is sent.
    source.addEventListener("over", () => {
      stop();
      over = true;
      body.dataset.connected = "over";
      if (!document.querySelector("main button[name=step]") && !isTyped()) location.reload();
      else show("session-over", true);
    });
    source.onerror = () => {
      show("live-lost", true);
      body.dataset.connected = "no";
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(listen, 5000); }
    };
  };
  const isTyped = () => [...document.querySelectorAll("main input[type=text], main input[type=date], main textarea")].some((one) => one.value !== one.defaultValue);
  const stop = () => { if (source) { source.close(); source = null; } };
  const fetchLink = () => htmx.ajax("GET", location.pathname.split("/").slice(0, 2).join("/") + "/", { target: "#link", select: "#link", swap: "outerHTML" });
  document.addEventListener("visibilitychange", () => (document.visibilityState === "visible" ? listen() : stop()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", listen);

  // The focus stays where it was when a list is shown anew.
  let focused = null;
  body.addEventListener("htmx:beforeSwap", () => {
    const on = document.activeElement;
    focused = on && on !== body ? { id: on.id, href: on.getAttribute("href"), name: on.getAttribute("name") } : null;
  });
  body.addEventListener("htmx:afterSettle", () => {
    if (!focused || document.activeElement !== body) return;
    const same = focused.id ? byId(focused.id)
      : focused.href ? document.querySelector(`#main a[href="${CSS.escape(focused.href)}"], #main a[href="${focused.href.replace(/"/g, "")}"]`)
      : focused.name ? document.querySelector(`#main [name="${CSS.escape(focused.name)}"]`) : null;
    (same || byId("main")).focus({ preventScroll: true });
    focused = null;
  });
  // An answer that is no page of the list, such as one for signing in, does not take the list's place.
  body.addEventListener("htmx:responseError", (event) => { if (event.detail.xhr.status === 503) show("live-lost", true); });

  // The session ends when it is not used: two minutes before, who reads on can say so.
  const idle = Number(body.dataset.idle || 0) * 1000;
  let ends = Date.now() + idle;
  if (idle) {
    setInterval(() => show("session-ends", Date.now() > ends - 120000 && Date.now() < ends), 1000);
    byId("stay").addEventListener("click", async () => {
      const form = new URLSearchParams({ csrf: body.dataset.csrf });
      const kept = await fetch(body.dataset.stay, { method: "POST", body: form });
      if (kept.ok) { ends = Date.now() + idle; show("session-ends", false); byId("main").focus(); }
    });
  }

  // What is wrong with a form is where one is.
  const toErrors = () => { const errors = byId("errors") || byId("errors-files") || byId("result"); if (errors) errors.focus(); };
  toErrors();

  const count = (area) => {
    const shown = byId("count-" + area.name);
    if (!shown) return;
    const most = Number(area.dataset.most);
    const length = [...area.value.trim()].length;
    shown.textContent = shown.dataset.text.replace("LENGTH", length).replace("MOST", most);
    shown.classList.toggle("over", length > most);
  };
  body.addEventListener("input", (event) => { if (event.target.matches("textarea[data-most]")) count(event.target); });
  document.querySelectorAll("textarea[data-most]").forEach(count);
  body.addEventListener("click", (event) => { if (event.target.closest("[data-print]")) print(); });

  // Files may be dropped, and how far they are is shown. Without this the form is sent as any other.
  const bind = (form) => {
    const input = form.querySelector("input[type=file]");
    const drop = form.querySelector(".drop");
    const bar = form.querySelector("progress");
    const said = form.querySelector(".said");
    for (const kind of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", kind === "dragover"); });
    }
    drop.addEventListener("drop", (event) => { input.files = event.dataTransfer.files; });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const sending = new XMLHttpRequest();
      const button = form.querySelector("button");
      const failed = () => { said.textContent = said.dataset.failed; bar.hidden = true; button.disabled = false; };
      button.disabled = true;
      bar.hidden = false;
      said.textContent = bar.getAttribute("aria-label");
      sending.upload.addEventListener("progress", (at) => { if (at.lengthComputable) bar.value = (100 * at.loaded) / at.total; });
      sending.addEventListener("error", failed);
      sending.addEventListener("load", () => {
        const answer = new DOMParser().parseFromString(sending.responseText, "text/html");
        const keep = form.dataset.keep;
        if (sending.status === 200 && keep && answer.querySelector(keep)) return attached(form, answer, keep, bar, button, input, said);
        if (sending.status === 200 && !keep) { location.assign(sending.responseURL); return; }
        failed();
        const theirs = answer.getElementById("main");
        if (!keep && theirs && theirs.querySelector("form.upload")) return replaced(theirs, input.files);
        const fault = answer.querySelector("#errors, .error, main h1");
        if (fault) said.textContent = fault.textContent.trim();
      });
      sending.open("POST", form.action);
      sending.send(new FormData(form));
    });
  };
  // What is wrong shows as it would without this, and the files are still chosen.
  const replaced = (theirs, files) => {
    byId("main").replaceChildren(...document.importNode(theirs, true).childNodes);
    const form = byId("main").querySelector("form.upload");
    form.querySelector("input[type=file]").files = files;
    bind(form);
    toErrors();
  };
  // What was attached shows in the answer's form, in which everything typed stays.
  const attached = (form, answer, keep, bar, button, input, said) => {
    const here = document.querySelector(keep);
    const typed = new Map([...here.querySelectorAll("textarea, input[type=text], input[type=date], select")].map((one) => [one.name, one.value]));
    here.replaceWith(document.importNode(answer.querySelector(keep), true));
    for (const [name, value] of typed) {
      const one = document.querySelector(`${keep} [name="${CSS.escape(name)}"]`);
      if (one) { one.value = value; if (one.matches("textarea")) count(one); }
    }
    const done = answer.querySelector(".done");
    said.textContent = done ? done.textContent : "";
    bar.hidden = true;
    bar.value = 0;
    button.disabled = false;
    input.value = "";
  };
  document.querySelectorAll("form.upload").forEach(bind);
  listen();
})();
