"use strict";
// What pages do beyond links and forms: times in the reader's zone, copying, and following what happens.
(() => {
  const DAY = 86400000;
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const year = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
  const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

  const written = (when) => {
    const now = new Date();
    if (when.toDateString() === now.toDateString()) return clock.format(when);
    const day = when.getFullYear() === now.getFullYear() ? date : year;
    return `${day.format(when)}, ${clock.format(when)}`;
  };

  const localise = (root) => {
    for (const time of root.querySelectorAll("time[datetime]:not([data-done])")) {
      const when = new Date(time.dateTime);
      if (Number.isNaN(when.getTime())) continue;
      time.textContent = written(when);
      time.title = `${whole.format(when)} (${time.dateTime})`;
      time.dataset.done = "";
    }
    const marks = root.querySelectorAll("text[data-moment]");
    for (const mark of marks) {
      const when = new Date(Number(mark.dataset.moment));
      const far = Date.now() - when.getTime() > 1.5 * DAY;
      mark.textContent = far ? date.format(when) : short.format(when);
    }
  };

  // --- what a page shows is made anew on the server, and put in where it differs

  const keep = (root) => {
    const open = new Map();
    for (const each of root.querySelectorAll("details[data-keep]")) open.set(each.dataset.keep, each.open);
    return open;
  };

  const children = (element) => Array.from(element.children);
  const isKeyed = (element) => children(element).length > 0 && children(element).every((child) => child.id);

  // Keeps whatever is the same: the focus, a selection and an open part stay where they are.
  const renew = (old, now) => {
    if (old.isEqualNode(now)) return;
    const same = old.nodeName === now.nodeName && old.children.length > 0 && now.children.length > 0;
    if (same && isKeyed(old) && isKeyed(now)) {
      const known = new Map(children(old).map((child) => [child.id, child]));
      let place = old.firstElementChild;
      for (const child of children(now)) {
        const before = known.get(child.id);
        if (before === undefined) {
          old.insertBefore(child, place);
          if (child.id) child.classList.add("is-new");
          continue;
        }
        known.delete(child.id);
        if (before === place) place = place.nextElementSibling;
        else old.insertBefore(before, place);
        renew(before, child);
      }
      for (const gone of known.values()) gone.remove();
      return;
    }
    if (same && old.children.length === now.children.length && !hasText(old) && !hasText(now)) {
      for (const name of now.getAttributeNames()) {
        const value = now.getAttribute(name);
        const isOpen = name === "open" || name === "class";
        if (!isOpen && old.getAttribute(name) !== value) old.setAttribute(name, value);
      }
      if (old.className !== now.className && typeof old.className === "string") old.className = now.className;
      const pairs = children(now);
      children(old).forEach((child, index) => renew(child, pairs[index]));
      return;
    }
    old.replaceWith(now);
  };
  const hasText = (element) =>
    Array.from(element.childNodes).some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());

  const put = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    localise(holder.content);
    for (const part of children(holder.content)) {
      const old = document.getElementById(part.id);
      if (!old) continue;
      const open = keep(old);
      for (const each of part.querySelectorAll("details[data-keep]")) {
        if (open.has(each.dataset.keep)) each.open = open.get(each.dataset.keep);
      }
      renew(old, part);
    }
  };

  // A page that nobody sees holds no connection: browsers have few of them for one server.
  let source = null;
  let patience = 0;
  const lost = document.getElementById("lost");
  const found = () => {
    clearTimeout(patience);
    patience = 0;
    lost.replaceChildren();
  };
  // Signed out, gone, or too many pages: the browser does not ask again by itself.
  const stay = () => {
    found();
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = "Load it again";
    lost.append("This page no longer follows what happens. ", link, ".");
  };
  const follow = () => {
    const path = document.body.dataset.live;
    if (!path || source || document.hidden) return;
    const opened = (source = new EventSource(path));
    opened.addEventListener("parts", (event) => put(event.data));
    opened.addEventListener("open", found);
    opened.addEventListener("error", () => {
      if (opened !== source) return;
      if (opened.readyState === EventSource.CLOSED) stay();
      else if (!patience) patience = setTimeout(() => lost.append("No connection. Trying again…"), 4000);
    });
  };
  const rest = () => {
    if (source) source.close();
    source = null;
    found();
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : follow()));
  window.addEventListener("pagehide", rest);
  window.addEventListener("pageshow", (event) => event.persisted && follow());

  // --- copying

  const copy = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "aside";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("not copied");
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const label = button.textContent;
    try {
      await copy(document.querySelector(button.dataset.copy).textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it and copy";
    }
    setTimeout(() => (button.textContent = label), 2000);
  });

  // --- forms

  // Whoever picks some events does not want all of them; a prefix covers those that begin with it.
  const settle = (form, picked) => {
    const all = form.querySelector("[data-all]");
    if (!all) return;
    const tree = form.querySelector(".tree");
    const boxes = tree ? Array.from(tree.querySelectorAll("input")) : [];
    const more = form.querySelector("#more_events");
    if (picked === all && all.checked) {
      for (const box of boxes) box.checked = false;
    } else if ((boxes.includes(picked) && picked.checked) || (picked === more && more.value.trim())) {
      all.checked = false;
    }
    for (const box of boxes) {
      const branch = box.closest(".branch").querySelector("[data-branch]");
      box.disabled = Boolean(branch && branch !== box && branch.checked);
      box.closest("label").classList.toggle("is-covered", all.checked || box.disabled);
    }
  };

  document.addEventListener("input", (event) => {
    const form = event.target.form;
    if (!form) return;
    settle(form, event.target);
    // what was wrong is being mended
    const field = event.target.closest(".is-wrong");
    if (field) field.classList.remove("is-wrong");
    event.target.removeAttribute("aria-invalid");
    // what was found is no answer to what the form says now
    if (form.dataset.stale) document.querySelector(form.dataset.stale).replaceChildren();
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    for (const zone of form.querySelectorAll("input[name=tz]")) zone.value = String(new Date().getTimezoneOffset());
    // sent twice by a double click, it would be done twice
    if (form.method === "post" && !form.hasAttribute("hx-post")) {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "yes";
      setTimeout(() => delete form.dataset.sent, 5000);
    }
  });

  document.addEventListener("change", (event) => {
    if (event.target.id !== "window") return;
    const between = event.target.form.querySelector(".between");
    if (between) between.open = event.target.value === "own";
  });

  document.addEventListener("htmx:afterSwap", () => {
    localise(document);
    if (document.body.dataset.live && document.getElementById("webhooks")) {
      rest();
      document.body.dataset.live = `/dashboard/live${location.search}`;
      follow();
    }
  });

  // what was typed while the scripts were on their way; htmx has begun to listen just before this
  document.addEventListener("DOMContentLoaded", () => {
    for (const field of document.querySelectorAll("input[hx-get], form[hx-get] input[type=search]")) {
      if (field.value !== field.defaultValue) field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  });

  // going back to an earlier search brings a whole page, whose forms have not been looked at yet
  document.addEventListener("htmx:historyRestore", () => localise(document));

  for (const zone of document.querySelectorAll("input[name=tz]")) zone.value = String(new Date().getTimezoneOffset());
  localise(document);
  for (const form of document.forms) settle(form, null);
  follow();
})();
