/**
 * Every text of the page, in English and Japanese, and how numbers, sizes and times are written.
 *
 * A text may name values as `{name}`.  `{one, other}` chooses by the value `n`; Japanese has no plural.  What
 * the daemon says (why, placement, errors) is English and is shown as it comes, marked as such.
 */

/** @typedef {string | {one: string, other: string}} Text */
/** @typedef {"en" | "ja"} Language */

/** @satisfies {Record<string, {en: Text, ja: Text}>} */
export const TEXTS = {
  // the frame
  "view.now": { en: "Now", ja: "現在の状態" },
  "view.requests": { en: "Requests", ja: "リクエスト" },
  "view.logs": { en: "Logs", ja: "ログ" },
  "view.hardware": { en: "Hardware", ja: "ハードウェア" },
  "view.profiles": { en: "Profiles", ja: "プロファイル" },
  "view.charts": { en: "Charts", ja: "グラフ" },
  "view.usage": { en: "Usage", ja: "使用量" },
  "view.jobs": { en: "Jobs", ja: "ジョブ" },
  "frame.skip": { en: "Skip to the content", ja: "本文へ移動" },
  "frame.views": { en: "Views", ja: "表示の切り替え" },
  "frame.language": { en: "Language", ja: "言語" },
  "frame.connecting": { en: "Connecting…", ja: "接続しています…" },
  "frame.open": { en: "Live", ja: "接続中" },
  "frame.lost": { en: "Not connected", ja: "切断されています" },
  "frame.lost.long": {
    en: "Not connected: what you see is from {time}. The page connects again by itself.",
    ja: "接続が切れています。表示は {time} 時点のものです。自動的に再接続します。",
  },
  "frame.view_failed": { en: "This view could not be shown: {why}", ja: "この画面を表示できませんでした: {why}" },
  "frame.messages": { en: "Messages", ja: "メッセージ" },
  "frame.dismiss": { en: "Dismiss", ja: "閉じる" },
  "frame.cancel": { en: "Cancel", ja: "キャンセル" },
  "frame.logout": { en: "Log out", ja: "ログアウト" },
  "frame.unknown": { en: "not known", ja: "不明" },
  "frame.done": { en: "{what}: done", ja: "{what}: 完了しました" },
  "frame.superseded": { en: "{what}: superseded by a later request", ja: "{what}: 後のリクエストに置き換えられました" },
  "frame.failed": { en: "{what}: {why}", ja: "{what}: {why}" },

  // the login
  "login.title": { en: "Log in", ja: "ログイン" },
  "login.why": {
    en: "This page needs a key of the scope admin. “goss-supervisor open” on the machine itself opens it without one.",
    ja: "このページを見るには、admin スコープのキーが必要です。サーバー本体で goss-supervisor open を実行すれば、キーなしで開けます。",
  },
  "login.key": { en: "Admin key", ja: "管理者キー" },
  "login.submit": { en: "Log in", ja: "ログイン" },
  "login.unknown": {
    en: "This key is not known. “goss-supervisor key add NAME --scope admin” makes one.",
    ja: "このキーは登録されていません。goss-supervisor key add NAME --scope admin で作成できます。",
  },
  "login.scope": {
    en: "This key is only for inference. The page needs one with the scope admin.",
    ja: "このキーは推論専用です。admin スコープのキーを使ってください。",
  },
  "login.code": {
    en: "The link was used before, or is older than a minute. Run “goss-supervisor open” again.",
    ja: "リンクが使用済みか、発行から 1 分以上経過しています。goss-supervisor open をもう一度実行してください。",
  },
  "login.unreachable": { en: "The daemon cannot be reached. Is it running?", ja: "デーモンに接続できません。起動しているか確認してください。" },
};

/** @typedef {keyof typeof TEXTS} Key */

export const LANGUAGES = /** @type {const} */ ({ en: "English", ja: "日本語" });
const REMEMBERED = "goss-language";
const KIB = 1024;
const UNITS = /** @type {const} */ ([["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]);

/** The texts and formats of one language. */
export class Words {
  /** @param {Language} language */
  constructor(language) {
    this.language = language;
    this._plural = new Intl.PluralRules(language);
    /** @type {Map<string, Intl.NumberFormat>} */
    this._formats = new Map();
    this.t = this.t.bind(this);
  }

  /**
   * @param {Key} key
   * @param {Record<string, string | number>} [values] `n` chooses the plural; numbers are written as such
   * @returns {string}
   */
  t(key, values = {}) {
    /** @type {Text | undefined} */
    const text = TEXTS[key]?.[this.language];
    if (text === undefined) return key;
    const form = typeof text === "string" ? text : text[this._plural.select(Number(values.n)) === "one" ? "one" : "other"];
    return form.replace(/\{(\w+)\}/g, (whole, name) => {
      const value = values[name];
      return value === undefined ? whole : typeof value === "number" ? this.number(value) : value;
    });
  }

  /** @param {number | null | undefined} value @param {number} [digits] after the point, at most */
  number(value, digits = 0) {
    if (value === null || value === undefined) return this.t("frame.unknown");
    return this._format({ maximumFractionDigits: digits }).format(value);
  }

  /** A share of 0..1. @param {number | null | undefined} value */
  percent(value) {
    if (value === null || value === undefined) return this.t("frame.unknown");
    return this._format({ style: "percent", maximumFractionDigits: 0 }).format(value);
  }

  /** 36.2 GiB, 480 MiB, as the commands write it. @param {number | null | undefined} bytes */
  size(bytes) {
    if (bytes === null || bytes === undefined) return this.t("frame.unknown");
    const size = Math.abs(bytes);
    if (size >= KIB ** 3) return `${this._format({ minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(bytes / KIB ** 3)} GiB`;
    if (size >= KIB ** 2 || size === 0) return `${this.number(bytes / KIB ** 2)} MiB`;
    return `${this.number(bytes / KIB)} KiB`;
  }

  /** The two largest units: 2 min 5 s. @param {number | null | undefined} seconds */
  duration(seconds) {
    if (seconds === null || seconds === undefined) return this.t("frame.unknown");
    if (seconds < 10) return this._format({ style: "unit", unit: "second", unitDisplay: "narrow", maximumFractionDigits: seconds < 1 ? 2 : 1 }).format(seconds);
    let rest = Math.floor(seconds);
    /** @type {string[]} */
    const parts = [];
    for (const [unit, length] of UNITS) {
      const count = Math.floor(rest / length);
      rest %= length;
      if (count) parts.push(this._format({ style: "unit", unit, unitDisplay: "narrow" }).format(count));
    }
    return parts.slice(0, 2).join(" ");
  }

  /** 14:03:27, with the date where it is not today. @param {number} epoch seconds @param {Date} [today] */
  time(epoch, today = new Date()) {
    const at = new Date(epoch * 1000);
    const isToday = at.toDateString() === today.toDateString();
    return new Intl.DateTimeFormat(this.language, { timeStyle: "medium", ...(isToday ? {} : { dateStyle: "medium" }), hourCycle: "h23" }).format(at);
  }

  /** @param {Intl.NumberFormatOptions} options */
  _format(options) {
    const name = JSON.stringify(options);
    const known = this._formats.get(name) ?? new Intl.NumberFormat(this.language, options);
    this._formats.set(name, known);
    return known;
  }
}

/** What was chosen before, else the browser's first language that we have. @returns {Language} */
export function chosenLanguage() {
  const all = [remembered(), ...(navigator.languages ?? [navigator.language])];
  const found = all.map((each) => (each ?? "").slice(0, 2)).find((each) => each in LANGUAGES);
  return /** @type {Language} */ (found ?? "en");
}

/** @param {Language} language */
export function rememberLanguage(language) {
  try {
    localStorage.setItem(REMEMBERED, language);
  } catch {
    // a browser that keeps nothing: it is asked again next time
  }
}

function remembered() {
  try {
    return localStorage.getItem(REMEMBERED);
  } catch {
    return null;
  }
}
