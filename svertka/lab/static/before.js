// Before the first paint: the reader's theme and language, so that nothing flashes.
(() => {
  const root = document.documentElement;
  let theme = null;
  let language = null;
  try {
    theme = localStorage.getItem("svertka-theme");
    language = localStorage.getItem("svertka-language");
  } catch {
    // Storage may be forbidden: the system's choice it is.
  }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  root.lang = language === "ru" || language === "en" ? language : /^(ru|be|uk|kk)\b/.test(navigator.language) ? "ru" : "en";
})();
