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

  // states and phases
  "state.stopped": { en: "stopped", ja: "停止" },
  "state.preparing": { en: "preparing", ja: "準備中" },
  "state.starting": { en: "starting", ja: "起動中" },
  "state.ready": { en: "ready", ja: "稼働中" },
  "state.degraded": { en: "degraded", ja: "制限付きで稼働中" },
  "state.draining": { en: "draining", ja: "処理完了待ち" },
  "state.stopping": { en: "stopping", ja: "停止処理中" },
  "state.killing": { en: "being killed", ja: "強制終了中" },
  "state.backoff": { en: "waits to try again", ja: "再試行待ち" },
  "state.sleeping": { en: "asleep", ja: "スリープ中" },
  "state.failed": { en: "failed", ja: "失敗" },
  "state.loading": { en: "loading", ja: "読み込み中" },
  "state.unloaded": { en: "not loaded", ja: "未読み込み" },
  "state.waiting": { en: "waits for memory", ja: "メモリ待ち" },
  "phase.waiting": { en: "waits", ja: "待機中" },
  "phase.prompt": { en: "reads the prompt", ja: "プロンプト処理中" },
  "phase.answer": { en: "answers", ja: "応答中" },

  // Now
  "now.none_yet": { en: "Waiting for the daemon…", ja: "デーモンからの情報を待っています…" },
  "now.servers": { en: "Servers", ja: "サーバー" },
  "now.main": { en: "main", ja: "メイン" },
  "now.pinned": { en: "pinned", ja: "固定" },
  "now.under_way": { en: "Requests under way", ja: "処理中のリクエスト" },
  "now.waiting": { en: "Waiting", ja: "待機中" },
  "now.speed": { en: "Speed now", ja: "現在の速度" },
  "now.speed.unit": { en: "tokens/s", ja: "トークン/秒" },
  "now.first_token": { en: "First token", ja: "最初のトークンまで" },
  "now.first_token.of": { en: "median of 5 min", ja: "直近 5 分の中央値" },
  "now.is.stopped": { en: "Stopped since {since} ({length}). It stays down until somebody loads it.", ja: "{since} から停止しています ({length})。読み込むまで停止したままです。" },
  "now.is.preparing": { en: "Checks the engine, the model and the memory, since {length}.", ja: "エンジン、モデル、メモリを確認しています ({length})。" },
  "now.is.starting": { en: "Loads the model, since {length}.", ja: "モデルを読み込んでいます ({length})。" },
  "now.is.ready": { en: "Answers requests since {since} ({length}).", ja: "{since} から稼働しています ({length})。" },
  "now.is.degraded": { en: "Answers requests, but not as the profile asks, since {since}.", ja: "{since} から稼働していますが、プロファイルの指定どおりではありません。" },
  "now.is.draining": { en: "Finishes the requests under way, since {length}; new ones wait.", ja: "処理中のリクエストの完了を待っています ({length})。新しいリクエストは待機します。" },
  "now.is.stopping": { en: "Is being stopped, since {length}.", ja: "停止しています ({length})。" },
  "now.is.killing": { en: "Does not stop by itself and is being killed, since {length}.", ja: "自力で停止しないため、強制終了しています ({length})。" },
  "now.is.backoff": { en: "Waits before it starts again, since {length}.", ja: "再起動の前に待機しています ({length})。" },
  "now.is.sleeping": { en: "Uses no memory since {since}; the next request loads it.", ja: "{since} からメモリを使用していません。次のリクエストで読み込みます。" },
  "now.is.failed": { en: "Failed at {since} and stays down until somebody loads it.", ja: "{since} に失敗しました。読み込むまで停止したままです。" },
  "now.is.loading": { en: "Loads, since {length}.", ja: "読み込んでいます ({length})。" },
  "now.is.unloaded": { en: "Not loaded since {since}.", ja: "{since} から読み込まれていません。" },
  "now.is.waiting": { en: "Waits for memory, since {length}.", ja: "メモリが空くのを待っています ({length})。" },
  "now.loaded": { en: "About {share} of the model is loaded", ja: "モデルの約 {share} を読み込みました" },
  "now.failed_before": { en: "Last failure at {at}:", ja: "前回の失敗 ({at}):" },
  "now.to_log": { en: "See its log", ja: "ログを見る" },
  "now.to_profile": { en: "See its profile", ja: "プロファイルを見る" },
  "now.model": { en: "Model", ja: "モデル" },
  "now.build": { en: "Build", ja: "ビルド" },
  "now.context": { en: "Context", ja: "コンテキスト" },
  "now.context.text": { en: "{slots} slots share {tokens} tokens; {expected} are expected to be used.", ja: "{slots} スロットで {tokens} トークンを共有 (使用見込み {expected} トークン)。" },
  "now.context.waiting": { en: { one: "{n} request waits for room, for {longest}.", other: "{n} requests wait for room, for up to {longest}." }, ja: "{n} 件が空きを待っています (最長 {longest})。" },
  "now.restarts": { en: "Restarts", ja: "再起動回数" },
  "now.do.load": { en: "Load", ja: "読み込む" },
  "now.do.unload": { en: "Unload", ja: "メモリから解放" },
  "now.do.restart": { en: "Restart", ja: "再起動" },
  "now.do.pin": { en: "Pin", ja: "固定する" },
  "now.do.unpin": { en: "Unpin", ja: "固定を解除" },
  "now.do.pin.why": { en: "A pinned model is never unloaded to make room for another.", ja: "固定したモデルは、ほかのモデルのために解放されることがありません。" },
  "now.do.switch": { en: "Switch…", ja: "切り替え…" },
  "now.doing": { en: "{label} {profile}", ja: "{profile}: {label}" },
  "now.chat": { en: "Chat", ja: "チャット" },
  "now.stops": { en: "{label} {profile}, which is in use?", ja: "{profile} は使用中です。実行しますか ({label})？" },
  "now.stops.requests": { en: { one: "It works on {n} request:", other: "It works on {n} requests:" }, ja: "処理中のリクエストが {n} 件あります:" },
  "now.stops.drain": {
    en: "They may finish first, within the drain timeout of the profile. An answer that takes longer breaks off. New requests wait.",
    ja: "プロファイルの drain-timeout の間は処理を続けますが、それを過ぎた応答は途中で打ち切られます。新しいリクエストは待機します。",
  },
  "now.switch.none": { en: "There is no other profile to switch to.", ja: "切り替えられるプロファイルがほかにありません。" },
  "now.switch.title": { en: "Switch the main server", ja: "メインサーバーの切り替え" },
  "now.switch.text": { en: "Another profile runs in place of {profile}, at the same address. If it does not become ready, {profile} comes back.", ja: "{profile} の代わりに別のプロファイルを同じアドレスで起動します。起動できなければ {profile} に戻ります。" },
  "now.switch.to": { en: "Profile", ja: "プロファイル" },
  "now.switch.action": { en: "Switch", ja: "切り替える" },
  "now.absent": { en: "Not loaded", ja: "読み込まれていないモデル" },
  "now.requests": { en: "Requests under way and waiting", ja: "処理中・待機中のリクエスト" },
  "now.requests.none": { en: "No request at the moment.", ja: "現在、リクエストはありません。" },
  "now.group": { en: { one: "{n} request waits for {profile}:", other: "{n} requests wait for {profile}:" }, ja: "{n} 件が {profile} を待っています:" },
  "now.no_key": { en: "no key", ja: "キーなし" },
  "now.tokens": { en: { one: "{n} token", other: "{n} tokens" }, ja: "{n} トークン" },
  "now.rate": { en: "{rate} tokens/s", ja: "{rate} トークン/秒" },
  "now.jobs": { en: "Jobs under way", ja: "実行中のジョブ" },
  "now.memory": { en: "Memory", ja: "メモリ" },
  "now.memory.left": { en: "{left} of {total} left", ja: "空き {left} / {total}" },
  "now.memory.share": { en: "{measured}, planned {planned}", ja: "{measured} (計画 {planned})" },
  "now.memory.others": { en: "other programs", ja: "ほかのプログラム" },
  "now.memory.leave": { en: "to be left free", ja: "空けておく量" },
  "now.charts": { en: "The last 10 minutes", ja: "直近 10 分" },
  "now.chart.tokens": { en: "Tokens per second", ja: "トークン/秒" },
  "now.chart.first": { en: "Time to the first token", ja: "最初のトークンまでの時間" },
  "now.chart.empty": { en: "no answers in this time", ja: "この間の応答はありません" },

  // Requests
  "result.answered": { en: "answered", ja: "応答済み" },
  "result.refused": { en: "refused", ja: "拒否" },
  "result.cancelled": { en: "cancelled", ja: "キャンセル" },
  "result.broken": { en: "broken off", ja: "中断" },
  "result.failed": { en: "failed", ja: "失敗" },
  "requests.caption": { en: "{n} of the last {all} requests, newest first unless sorted otherwise; without their content", ja: "直近 {all} 件のうち {n} 件 (新しい順。見出しで並べ替えできます)。内容は記録していません" },
  "requests.none": { en: "No request has ended since the daemon started.", ja: "デーモンの起動後に完了したリクエストはありません。" },
  "requests.no_match": { en: "No request matches.", ja: "条件に合うリクエストはありません。" },
  "requests.search": { en: "Search", ja: "検索" },
  "requests.any": { en: "all", ja: "すべて" },
  "requests.by_profile": { en: "Profile", ja: "プロファイル" },
  "requests.by_caller": { en: "Key", ja: "キー" },
  "requests.by_result": { en: "Result", ja: "結果" },
  "requests.everything": { en: "Also files and look-ups of pages", ja: "ページのファイルや状態確認も表示" },
  "requests.at": { en: "Time", ja: "時刻" },
  "requests.model": { en: "Model", ja: "モデル" },
  "requests.caller": { en: "Key", ja: "キー" },
  "requests.endpoint": { en: "Endpoint", ja: "エンドポイント" },
  "requests.result": { en: "Result", ja: "結果" },
  "requests.held": { en: "Waited", ja: "待ち時間" },
  "requests.first": { en: "First token", ja: "最初のトークン" },
  "requests.total": { en: "Total", ja: "合計時間" },
  "requests.in": { en: "Tokens in", ja: "入力トークン" },
  "requests.out": { en: "Tokens out", ja: "出力トークン" },
  "requests.speed": { en: "Tokens/s", ja: "トークン/秒" },
  "requests.note": { en: "Why", ja: "理由" },
  "requests.request": { en: "Request", ja: "リクエスト" },
  "requests.asked": { en: "Model as asked", ja: "指定されたモデル名" },
  "requests.stream": { en: "Stream", ja: "ストリーミング" },
  "requests.room": { en: "Waited for context", ja: "コンテキスト待ち" },
  "requests.cached": { en: "Tokens in, cached", ja: "入力トークン (キャッシュ)" },
  "requests.read_speed": { en: "Prompt tokens/s", ja: "プロンプト処理 (トークン/秒)" },
  "requests.bytes": { en: "Size of request / answer", ja: "リクエスト / 応答のサイズ" },
  "requests.replayed": { en: "Sent again after a crash", ja: "クラッシュ後に再送" },
  "requests.yes": { en: "yes", ja: "はい" },
  "requests.no": { en: "no", ja: "いいえ" },

  // Logs
  "logs.server": { en: "Server", ja: "サーバー" },
  "logs.of": { en: "Log of {server}", ja: "{server} のログ" },
  "logs.search": { en: "Search", ja: "検索" },
  "logs.only": { en: "Only lines with it", ja: "一致する行のみ" },
  "logs.wrap": { en: "Wrap lines", ja: "行を折り返す" },
  "logs.pause": { en: "Pause", ja: "一時停止" },
  "logs.found": { en: { one: "{n} line found", other: "{n} lines found" }, ja: "{n} 行が一致" },
  "logs.more": { en: { one: "{n} new line since the pause", other: "{n} new lines since the pause" }, ja: "一時停止後の新しい行: {n}" },
  "logs.empty": { en: "The log is empty.", ja: "ログは空です。" },
  "logs.failure": { en: "Last failure", ja: "前回の異常終了" },
  "logs.tail": { en: "Its last lines", ja: "直前のログ" },

  // units
  "unit.day": { en: "{n} d", ja: "{n} 日" },
  "unit.hour": { en: "{n} h", ja: "{n} 時間" },
  "unit.minute": { en: "{n} min", ja: "{n} 分" },
  "unit.second": { en: "{n} s", ja: "{n} 秒" },
};

/** @typedef {keyof typeof TEXTS} Key */

/**
 * What the daemon says often, in Japanese; what is not here is shown as it says it.
 * @type {[RegExp, string][]}
 */
const TOLD_JA = [
  [/^loaded next to (.+)$/, "$1 と並べて読み込みました"],
  [/^loaded in place of (.+)$/, "$1 の代わりに読み込みました"],
  [/^unloaded for (.+)$/, "$1 のために解放しました"],
  [/^starting, about (\d+%) of the model loaded$/, "起動中です (モデルの約 $1 を読み込みました)"],
  [/^about (\d+%) of the model loaded$/, "モデルの約 $1 を読み込みました"],
  [/^room in the context that its slots share$/, "スロットが共有するコンテキストの空きを待っています"],
  [/^waits for (\S+), which answers (\d+) requests?$/, "$1 が $2 件のリクエストに応答し終わるのを待っています"],
];

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

  /** @param {number | null | undefined} value @param {number} [digits] after the point */
  number(value, digits = 0) {
    if (value === null || value === undefined) return this.t("frame.unknown");
    return this._format({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
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
    if (size >= KIB ** 3) return `${this.number(bytes / KIB ** 3, 1)} GiB`;
    if (size >= KIB ** 2 || size === 0) return `${this.number(bytes / KIB ** 2)} MiB`;
    return `${this.number(bytes / KIB)} KiB`;
  }

  /** The two largest units: 2 min 5 s. @param {number | null | undefined} seconds */
  duration(seconds) {
    if (seconds === null || seconds === undefined) return this.t("frame.unknown");
    if (seconds < 10) return this.t("unit.second", { n: this.number(seconds, Number.isInteger(seconds) ? 0 : seconds < 1 ? 2 : 1) });
    let rest = Math.floor(seconds);
    /** @type {string[]} */
    const parts = [];
    for (const [unit, length] of UNITS) {
      const count = Math.floor(rest / length);
      rest %= length;
      if (count) parts.push(this.t(`unit.${unit}`, { n: count }));
    }
    return parts.slice(0, 2).join(" ");
  }

  /** 14:03:27, with the date where it is not today. @param {number} epoch seconds @param {Date} [today] */
  time(epoch, today = new Date()) {
    const at = new Date(epoch * 1000);
    const isToday = at.toDateString() === today.toDateString();
    return new Intl.DateTimeFormat(this.language, { timeStyle: "medium", ...(isToday ? {} : { dateStyle: "medium" }), hourCycle: "h23" }).format(at);
  }

  /** 14:03 @param {number} epoch seconds */
  clock(epoch) {
    return new Intl.DateTimeFormat(this.language, { timeStyle: "short", hourCycle: "h23" }).format(new Date(epoch * 1000));
  }

  /** A sentence of the daemon, and the language that it is in. @param {string} text @returns {{text: string, lang: Language}} */
  told(text) {
    if (this.language === "ja") {
      for (const [pattern, form] of TOLD_JA) if (pattern.test(text)) return { text: text.replace(pattern, form), lang: "ja" };
    }
    return { text, lang: "en" };
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
