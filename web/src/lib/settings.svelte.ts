/** The reader's language and theme. */
import { en } from "../i18n/en";
import { ru, type Words } from "../i18n/ru";

export type Language = "ru" | "en";
export type Theme = "light" | "dark" | "system";

function kept(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // Storage may be forbidden: the choice then lasts as long as the page.
  }
}

class Settings {
  language = $state<Language>(document.documentElement.lang === "ru" ? "ru" : "en");
  theme = $state<Theme>((document.documentElement.dataset.theme as Theme | undefined) ?? "system");

  get words(): Words {
    return this.language === "ru" ? ru : en;
  }

  setLanguage(language: Language): void {
    this.language = language;
    document.documentElement.lang = language;
    kept("svertka-language", language);
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    kept("svertka-theme", theme === "system" ? null : theme);
  }
}

export const settings = new Settings();
