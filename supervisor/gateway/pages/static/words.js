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
    en: "There is no such key. “goss-supervisor key add NAME --scope admin” makes one.",
    ja: "このキーは登録されていません。goss-supervisor key add NAME --scope admin で作成できます。",
  },
  "login.scope": {
    en: "This key is only for inference. The page needs one with the scope admin.",
    ja: "このキーは推論専用です。admin スコープのキーを使ってください。",
  },
  "login.code": {
    en: "The link has been used, or is more than a minute old. Run “goss-supervisor open” again.",
    ja: "リンクが使用済みか、発行から 1 分以上経過しています。goss-supervisor open をもう一度実行してください。",
  },
  "login.unreachable": { en: "The daemon cannot be reached. Is it running?", ja: "デーモンに接続できません。起動しているか確認してください。" },

  // in place of llama-server's page
  "asleep.load": { en: "Load the model", ja: "モデルをロード" },
  "asleep.others": { en: "A request to the model loads it too, and so does goss-supervisor load.", ja: "モデルへのリクエストや goss-supervisor load でもロードされます。" },
  "asleep.all": { en: "All models, requests and logs", ja: "すべてのモデル、リクエスト、ログを見る" },
  "asleep.key": { en: "This needs an administrator's key: goss-supervisor load does the same.", ja: "管理者キーが必要です。goss-supervisor load でもロードできます。" },
  "asleep.silent": { en: "goss-supervisor does not answer.", ja: "goss-supervisor が応答しません。" },

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
  "state.loading": { en: "loading", ja: "ロード中" },
  "state.unloaded": { en: "not loaded", ja: "未ロード" },
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
  "now.is.stopped": { en: "Stopped at {since} ({length} ago). It stays stopped until you load it.", ja: "{since} に停止しました ({length}前)。ロードするまで停止したままです。" },
  "now.is.preparing": { en: "Has been checking the engine, the model and the memory for {length}.", ja: "エンジン、モデル、メモリを確認しています ({length})。" },
  "now.is.starting": { en: "Has been loading the model for {length}.", ja: "モデルをロードしています ({length})。" },
  "now.is.ready": { en: "Has been answering requests since {since} ({length}).", ja: "{since} から稼働しています ({length})。" },
  "now.is.degraded": { en: "Has been answering requests since {since}, but not as the profile asks.", ja: "{since} から稼働していますが、プロファイルの指定どおりではありません。" },
  "now.is.draining": { en: "Has been finishing the requests under way for {length}; new ones wait.", ja: "処理中のリクエストの完了を待っています ({length})。新しいリクエストは待機します。" },
  "now.is.stopping": { en: "Has been stopping for {length}.", ja: "停止しています ({length})。" },
  "now.is.killing": { en: "Does not stop by itself; the daemon has been killing it for {length}.", ja: "自力で停止しないため、強制終了しています ({length})。" },
  "now.is.backoff": { en: "Has been waiting for its next start for {length}.", ja: "再起動の前に待機しています ({length})。" },
  "now.is.sleeping": { en: "Has used no memory since {since}. The next request loads it.", ja: "{since} からメモリを使用していません。次のリクエストでロードします。" },
  "now.is.failed": { en: "Failed at {since}. It stays stopped until you load it.", ja: "{since} に失敗しました。ロードするまで停止したままです。" },
  "now.loaded": { en: "About {share} of the model is loaded", ja: "モデルの約 {share} をロードしました" },
  "now.failed_before": { en: "Last failure at {at}:", ja: "前回の失敗 ({at}):" },
  "now.to_log": { en: "See its log", ja: "ログを見る" },
  "now.to_profile": { en: "See its profile", ja: "プロファイルを見る" },
  "now.model": { en: "Model", ja: "モデル" },
  "now.build": { en: "Build", ja: "ビルド" },
  "now.context": { en: "Context", ja: "コンテキスト" },
  "now.context.text": { en: "{slots} slots share {tokens} tokens; {expected} are reserved for requests.", ja: "{slots} スロットで {tokens} トークンを共有 (うち {expected} トークンを予約済み)。" },
  "now.context.waiting": { en: { one: "{n} request waits for room, for {longest}.", other: "{n} requests wait for room, for up to {longest}." }, ja: "{n} 件が空きを待っています (最長 {longest})。" },
  "now.restarts": { en: "Restarts", ja: "再起動回数" },
  "now.do.load": { en: "Load", ja: "ロード" },
  "now.do.unload": { en: "Unload", ja: "アンロード" },
  "now.do.restart": { en: "Restart", ja: "再起動" },
  "now.do.pin": { en: "Pin", ja: "固定する" },
  "now.do.unpin": { en: "Unpin", ja: "固定を解除" },
  "now.do.pin.why": { en: "A pinned model is never unloaded to make room for another.", ja: "固定したモデルは、他のモデルのためにアンロードされることはありません。" },
  "now.do.switch": { en: "Switch…", ja: "切り替え…" },
  "now.doing": { en: "{label} {profile}", ja: "{profile}: {label}" },
  "now.chat": { en: "Chat", ja: "チャット" },
  "now.stops": { en: "{label} {profile}, which is in use?", ja: "{profile} は使用中です。実行しますか ({label})?" },
  "now.stops.requests": { en: { one: "It works on {n} request:", other: "It works on {n} requests:" }, ja: "処理中のリクエストが {n} 件あります:" },
  "now.stops.drain": {
    en: "They may finish first, within the drain timeout of the profile. An answer that takes longer breaks off. New requests wait.",
    ja: "プロファイルの drain-timeout の間は処理を続けますが、それを過ぎた応答は途中で打ち切られます。新しいリクエストは待機します。",
  },
  "now.switch.none": { en: "There is no other profile to switch to.", ja: "切り替えられるプロファイルが他にありません。" },
  "now.switch.title": { en: "Switch the main server", ja: "メインサーバーの切り替え" },
  "now.switch.text": { en: "Another profile runs in place of {profile}, at the same address. If it does not become ready, {profile} comes back.", ja: "{profile} の代わりに別のプロファイルを同じアドレスで起動します。起動できなければ {profile} に戻ります。" },
  "now.switch.to": { en: "Profile", ja: "プロファイル" },
  "now.switch.action": { en: "Switch", ja: "切り替える" },
  "now.absent": { en: "Not loaded", ja: "ロードしていないモデル" },
  "now.peers": { en: "Peers", ja: "ピア" },
  "now.peer.models": { en: { one: "{n} model", other: "{n} models" }, ja: "モデル {n} 個" },
  "now.peer.loaded": { en: "loaded: {models}", ja: "ロード済み: {models}" },
  "now.peer.under_way": { en: { one: "{n} request of ours", other: "{n} requests of ours" }, ja: "ここからのリクエスト {n} 件" },
  "peer.up": { en: "up", ja: "稼働中" },
  "peer.not ready": { en: "not ready", ja: "準備中" },
  "peer.down": { en: "down", ja: "応答なし" },
  "peer.unknown": { en: "not asked yet", ja: "未確認" },
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
  "now.memory.others": { en: "other programs", ja: "他のプログラム" },
  "now.memory.leave": { en: "to be left free", ja: "空けておく量" },
  "now.charts": { en: "The last 10 minutes", ja: "直近 10 分" },
  "now.chart.tokens": { en: "Tokens per second", ja: "トークン/秒" },
  "now.chart.first": { en: "Time to the first token", ja: "最初のトークンまでの時間" },
  "now.chart.empty": { en: "no streamed answers in this time", ja: "この間のストリーミング応答はありません" },

  // Requests
  "result.answered": { en: "answered", ja: "応答済み" },
  "result.refused": { en: "refused", ja: "拒否" },
  "result.cancelled": { en: "cancelled", ja: "キャンセル" },
  "result.broken": { en: "broken off", ja: "中断" },
  "result.failed": { en: "failed", ja: "失敗" },
  "requests.caption": { en: "{n} of the last {all} requests. Their content is not kept.", ja: "直近 {all} 件のうち {n} 件 (見出しで並べ替えできます)。内容は記録していません。" },
  "requests.none": { en: "No request has ended since the daemon started.", ja: "デーモンの起動後に完了したリクエストはありません。" },
  "requests.no_match": { en: "No request matches.", ja: "条件に合うリクエストはありません。" },
  "requests.search": { en: "Search", ja: "検索" },
  "requests.any": { en: "all", ja: "すべて" },
  "requests.by_profile": { en: "Profile", ja: "プロファイル" },
  "requests.by_caller": { en: "Key", ja: "キー" },
  "requests.by_result": { en: "Result", ja: "結果" },
  "requests.everything": { en: "Include page files and status checks", ja: "ページのファイルや状態確認も表示" },
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
  "requests.drafted": { en: "Drafted tokens: right / all", ja: "ドラフトトークン(採用 / 全体)" },
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

  // hardware, profiles, charts, usage, jobs
  "read.under_way": { en: "Reading…", ja: "読み込んでいます…" },
  "chart.table": { en: "As a table", ja: "表で見る" },
  "hardware.now": { en: "Devices now", ja: "デバイスの現在の状態" },
  "hardware.now_at": { en: "At {time}. “Not known”: this system does not report it.", ja: "{time} 時点の値です。「不明」は、このシステムでは取得できない値です。" },
  "hardware.no_sample": { en: "The first values come within five seconds.", ja: "最初の値は 5 秒以内に表示されます。" },
  "hardware.device": { en: "Device", ja: "デバイス" },
  "hardware.load": { en: "Load", ja: "使用率" },
  "hardware.temperature": { en: "Temperature", ja: "温度" },
  "hardware.power": { en: "Power", ja: "消費電力" },
  "hardware.memory": { en: "Memory in use", ja: "メモリ使用量" },
  "hardware.memory_share": { en: "Memory in use, as a share of each device", ja: "メモリ使用率(デバイスごと)" },
  "hardware.fan": { en: "Fan", ja: "ファン" },
  "hardware.clock": { en: "Clock", ja: "クロック" },
  "hardware.unit.load": { en: "%", ja: "%" },
  "hardware.unit.temperature": { en: "°C", ja: "°C" },
  "hardware.unit.power": { en: "W", ja: "W" },
  "hardware.unit.memory": { en: "%", ja: "%" },
  "hardware.of": { en: "{used} of {all}", ja: "{used} / {all}" },
  "hardware.over_time": { en: "Over time", ja: "推移" },
  "hardware.span": { en: "How far back", ja: "表示する期間" },
  "hardware.minutes": { en: { one: "{n} minute", other: "{n} minutes" }, ja: "{n} 分" },
  "hardware.last": { en: "Now", ja: "現在" },
  "hardware.lowest": { en: "Lowest", ja: "最小" },
  "hardware.average": { en: "Average", ja: "平均" },
  "hardware.highest": { en: "Highest", ja: "最大" },
  "hardware.summary": { en: "{device}: now {now}, between {low} and {high}.", ja: "{device}: 現在 {now}、{low} から {high} の間。" },
  "hardware.detected": { en: "What detect finds", ja: "detect の結果" },
  "hardware.again": { en: "Detect again", ja: "もう一度検出する" },
  "hardware.machine": { en: "Machine", ja: "マシン" },
  "hardware.system": { en: "System", ja: "OS" },
  "hardware.environment": { en: "Environment", ja: "実行環境" },
  "hardware.kernel": { en: "Kernel", ja: "カーネル" },
  "hardware.cpu": { en: "CPU", ja: "CPU" },
  "hardware.cores": { en: "{cores} cores, {threads} threads", ja: "{cores} コア {threads} スレッド" },
  "hardware.features": { en: "Instruction sets", ja: "命令セット" },
  "hardware.ram": { en: "RAM", ja: "RAM" },
  "hardware.free_of": { en: "{free} available of {all}", ja: "{all} のうち {free} が利用可能" },
  "hardware.disk": { en: "Free disk space", ja: "ディスクの空き容量" },
  "hardware.gpus": { en: "GPUs", ja: "GPU" },
  "hardware.no_gpu": { en: "No GPU was found.", ja: "GPU は見つかりませんでした。" },
  "hardware.kind": { en: "Kind", ja: "種類" },
  "hardware.integrated": { en: "integrated", ja: "内蔵" },
  "hardware.discrete": { en: "discrete", ja: "独立" },
  "hardware.gpu_memory": { en: "Memory", ja: "メモリ" },
  "hardware.unified": { en: "{size}, shared with the CPU", ja: "{size}(CPU と共有)" },
  "hardware.shared": { en: "Of the RAM", ja: "RAM から" },
  "hardware.free": { en: "Free", ja: "空き" },
  "hardware.driver": { en: "Driver", ja: "ドライバー" },
  "hardware.architecture": { en: "Architecture", ja: "アーキテクチャ" },
  "hardware.link": { en: "PCIe link", ja: "PCIe リンク" },
  "hardware.pci": { en: "PCI address", ja: "PCI アドレス" },
  "hardware.sources": { en: "Reported by", ja: "情報の取得元" },
  "hardware.no_access": { en: "This user may not open {files}.", ja: "現在のユーザーには {files} を開く権限がありません。" },
  "hardware.profiles": { en: "Profiles for this machine", ja: "このマシンに合うプロファイル" },
  "hardware.best": { en: "Best", ja: "最適" },
  "hardware.default": { en: "Default", ja: "デフォルト" },
  "hardware.unfit": { en: { one: "{n} profile that does not suit it", other: "{n} profiles that do not suit it" }, ja: "合わないプロファイル {n} 件" },

  "profiles.search": { en: "Search", ja: "検索" },
  "profiles.none": { en: "No profile matches.", ja: "該当するプロファイルはありません。" },
  "profiles.name": { en: "Name", ja: "名前" },
  "profiles.state": { en: "State", ja: "状態" },
  "profiles.origin": { en: "Origin", ja: "種類" },
  "profiles.description": { en: "Description", ja: "説明" },
  "profiles.served": { en: "offered", ja: "提供中" },
  "profiles.shipped": { en: "shipped", ja: "付属" },
  "profiles.yours": { en: "yours", ja: "自分用" },
  "profiles.replaces": { en: "yours, replaces a shipped one", ja: "自分用(付属のものを置き換え)" },
  "profiles.no_edit": {
    en: "Profiles cannot be changed here: any user of this machine reaches the port without a key. Open the page with a session of your own:",
    ja: "ここではプロファイルを変更できません。キーなしでは、このマシンの誰でもこのポートに接続できるためです。次のコマンドでセッションを作って開いてください:",
  },
  "profiles.back": { en: "All profiles", ja: "プロファイル一覧" },
  "profiles.plan": { en: "Plan", ja: "起動プラン" },
  "profiles.values": { en: "Values and where they come from", ja: "設定値と、その設定場所" },
  "profiles.key": { en: "Key", ja: "キー" },
  "profiles.value": { en: "Value", ja: "値" },
  "profiles.from": { en: "Set in", ja: "設定場所" },
  "profiles.lineage": { en: "Files, this one first", ja: "ファイル(このプロファイルが先頭)" },
  "profiles.defaults": { en: { one: "{n} default", other: "{n} defaults" }, ja: "デフォルト値 {n} 件" },
  "profiles.command": { en: "Command line", ja: "コマンドライン" },
  "profiles.edit": { en: "Edit", ja: "編集" },
  "profiles.text": { en: "Show the text", ja: "テキストを表示" },
  "profiles.load": { en: "Load", ja: "ロード" },
  "profiles.load_what": { en: "Load {profile}", ja: "{profile} のロード" },
  "profiles.load_about": {
    en: "It is loaded next to the others. If there is not enough memory, idle models are unloaded for it; pinned ones never are.",
    ja: "他のモデルと並べてロードします。メモリが足りない場合は、使われていないモデルがアンロードされます。固定されたモデルはアンロードされません。",
  },
  "profiles.serve": { en: "Offer to clients", ja: "クライアントに提供" },
  "profiles.serve_what": { en: "Offer {profile} to clients", ja: "{profile} の提供" },
  "profiles.serve_about": { en: "It is added to config.yaml. Clients can then ask for it by its name.", ja: "config.yaml に追加します。クライアントは名前を指定して利用できるようになります。" },
  "profiles.unserve": { en: "No longer offer", ja: "提供をやめる" },
  "profiles.unserve_what": { en: "No longer offer {profile}", ja: "{profile} の提供の終了" },
  "profiles.unserve_about": { en: "It is removed from config.yaml. Requests for it are then refused; a loaded server stays until you stop it.", ja: "config.yaml から削除します。以後のリクエストは拒否されます。ロード済みのサーバーは、停止するまで動作し続けます。" },
  "profiles.go_on": { en: "Go on", ja: "続ける" },
  "profiles.bench": { en: "Measure…", ja: "計測…" },
  "profiles.tune": { en: "Tune…", ja: "チューニング…" },
  "profiles.copy": { en: "Make a copy to edit", ja: "これを元に自分用を作る" },
  "profiles.copy_title": { en: "A profile of your own from {name}", ja: "{name} を元に自分用のプロファイルを作る" },
  "profiles.copy_about": {
    en: "Shipped profiles are not changed. Yours extends {name}: it has only what you change, and everything else is as {name} says.",
    ja: "付属のプロファイルは変更できません。新しいプロファイルは {name} を継承し、変更した項目だけを持ちます。それ以外は {name} のとおりになります。",
  },
  "profiles.copy_name": { en: "Name", ja: "名前" },
  "profiles.copy_make": { en: "Make it and edit it", ja: "作成して編集する" },
  "profiles.copy_what": { en: "Make {to} from {from}", ja: "{from} からの {to} の作成" },
  "profiles.bad_name": { en: "A name has small letters, digits, dots, hyphens and underscores, and begins with a letter or a digit.", ja: "名前に使えるのは英小文字、数字、ドット、ハイフン、アンダースコアで、先頭は英小文字か数字です。" },
  "profiles.taken": { en: "You have a profile {name} already.", ja: "{name} という自分用のプロファイルは既にあります。" },

  "plan.fits": { en: "It fits into memory.", ja: "メモリに収まります。" },
  "plan.tight": { en: "It fits, but only just.", ja: "収まりますが、余裕がありません。" },
  "plan.does_not_fit": { en: "It does not fit into memory.", ja: "メモリに収まりません。" },
  "plan.refused": { en: "It does not fit into memory; a start is refused.", ja: "メモリに収まらないため、起動できません。" },
  "plan.unknown": { en: "Whether it fits is not known.", ja: "メモリに収まるかどうかは不明です。" },
  "plan.memory": { en: "Memory per device; the line marks what is free now", ja: "デバイスごとのメモリ(線は現在の空き容量)" },
  "plan.device": { en: "Device", ja: "デバイス" },
  "plan.share": { en: "Share", ja: "割合" },
  "plan.needed": { en: "Needs", ja: "必要量" },
  "plan.free": { en: "Free", ja: "空き" },
  "plan.total": { en: "Of", ja: "合計" },
  "plan.weights": { en: "Weights", ja: "重み" },
  "plan.context": { en: "Context", ja: "コンテキスト" },
  "plan.compute": { en: "Compute", ja: "計算用" },
  "plan.other": { en: "Other", ja: "その他" },
  "plan.advice": { en: "What would make it fit", ja: "収めるための方法" },
  "plan.warnings": { en: "Warnings", ja: "警告" },
  "plan.engine": { en: "Engine", ja: "エンジン" },
  "plan.why_engine": { en: "Why this one", ja: "選択の理由" },
  "plan.model": { en: "Model", ja: "モデル" },
  "plan.environment": { en: "Environment variables", ja: "環境変数" },
  "plan.notes": { en: { one: "{n} note", other: "{n} notes" }, ja: "補足 {n} 件" },

  "editor.title": { en: "Edit {profile}", ja: "{profile} の編集" },
  "editor.title_read": { en: "Text of {profile}", ja: "{profile} のテキスト" },
  "editor.label": { en: "Text of {profile} in YAML", ja: "{profile} の YAML テキスト" },
  "editor.shipped": { en: "This profile is shipped with the program and is not changed.", ja: "これはプログラムに付属するプロファイルのため、変更できません。" },
  "editor.unsaved": { en: "What you typed is not saved yet; it is kept while this page is open.", ja: "入力した内容はまだ保存されていません。このページを開いている間は保持されます。" },
  "editor.checking": { en: "Checking…", ja: "確認しています…" },
  "editor.right": { en: "No mistakes.", ja: "問題はありません。" },
  "editor.mistakes": { en: { one: "{n} mistake: it cannot be saved like this.", other: "{n} mistakes: it cannot be saved like this." }, ja: "誤りが {n} 件あるため、このままでは保存できません。" },
  "editor.warnings": { en: { one: "No mistakes, {n} warning.", other: "No mistakes, {n} warnings." }, ja: "誤りはありません。警告が {n} 件あります。" },
  "editor.check_failed": { en: "The check failed: {why}", ja: "確認できませんでした: {why}" },
  "editor.problems": { en: "Mistakes and warnings", ja: "誤りと警告" },
  "editor.line": { en: "Line {n}", ja: "{n} 行目" },
  "editor.save": { en: "Save", ja: "保存" },
  "editor.save_title": { en: "Save {profile}?", ja: "{profile} を保存しますか?" },
  "editor.save_what": { en: "Save {profile}", ja: "{profile} の保存" },
  "editor.discard": { en: "Discard", ja: "変更を破棄" },
  "editor.discard_title": { en: "Discard what you changed?", ja: "変更を破棄しますか?" },
  "editor.changes": { en: "What changes", ja: "変更点" },
  "editor.added": { en: "Added:", ja: "追加:" },
  "editor.removed": { en: "Removed:", ja: "削除:" },
  "editor.gap": { en: { one: "{n} line that stays", other: "{n} lines that stay" }, ja: "変更のない {n} 行" },
  "editor.runs_on": { en: "{profile} keeps running the previous text until you restart it.", ja: "{profile} は、再起動するまで変更前の設定で動作します。" },
  "editor.next_start": { en: "No server is running this profile. The next start uses the new text.", ja: "このプロファイルを使っているサーバーはありません。次回の起動から有効になります。" },
  "editor.kept": { en: "Saved. The previous text is kept as {file}.", ja: "保存しました。変更前のテキストは {file} に残しています。" },
  "editor.still_runs": { en: "{profile} still runs the previous text.", ja: "{profile} は変更前の設定で動作しています。" },
  "editor.restart": { en: "Restart {profile}", ja: "{profile} を再起動" },
  "editor.restart_busy": { en: { one: "{n} request is being answered: it is finished first, and others wait until the model is loaded again.", other: "{n} requests are being answered: they are finished first, and others wait until the model is loaded again." }, ja: "現在 {n} 件のリクエストに応答中です。完了してから再起動します。その間に届いたリクエストは、モデルの再ロードが終わるまで待機します。" },
  "editor.restart_idle": { en: "It is not answering any request. New requests wait until the model is loaded again.", ja: "現在応答中のリクエストはありません。再起動中に届いたリクエストは、モデルの再ロードが終わるまで待機します。" },
  "editor.plan": { en: "What it would run", ja: "この内容での起動プラン" },
  "editor.no_plan": { en: "A text with mistakes has no plan.", ja: "誤りがあるため、プランは作成できません。" },
  "editor.cannot_start": { en: "This profile cannot be started as it is.", ja: "このプロファイルは、このままでは起動できません。" },

  "charts.back": { en: "All charts", ja: "グラフ一覧" },
  "charts.bench": { en: "Benchmarks", ja: "ベンチマーク" },
  "charts.tune": { en: "Tuning", ja: "チューニング" },
  "charts.compare": { en: "Compare", ja: "比較" },
  "charts.measure": { en: "Measure a profile", ja: "プロファイルを計測する" },
  "charts.start_tune": { en: "Tune a profile", ja: "プロファイルをチューニングする" },
  "charts.no_bench": { en: "Nothing has been measured here yet.", ja: "まだ計測結果がありません。" },
  "charts.no_tune": { en: "No profile has been tuned yet.", ja: "チューニング済みのプロファイルはありません。" },
  "charts.other_profiles": { en: "Other profiles, also those for which tuning found nothing better", ja: "その他のプロファイル(改善が見つからなかった結果もここにあります)" },
  "charts.pick_two": { en: "Choose two results to compare them. The figures are those of the first workload, with the 95 % interval.", ja: "2 件を選ぶと比較できます。数値は最初のワークロードのもので、95 % 信頼区間付きです。" },
  "charts.pick": { en: "Compare {id}", ja: "{id} を比較対象にする" },
  "charts.list_caption": { en: "Results, the newest first", ja: "計測結果(新しい順)" },
  "charts.result": { en: "Result", ja: "結果" },
  "charts.when": { en: "When", ja: "日時" },
  "charts.build": { en: "Build", ja: "ビルド" },
  "charts.scenarios": { en: "Scenarios", ja: "シナリオ" },
  "charts.model": { en: "Model", ja: "モデル" },
  "charts.machine": { en: "Machine", ja: "マシン" },
  "charts.result_of": { en: "{id}: {profile}", ja: "{id}: {profile}" },
  "charts.generated_per_second": { en: "Generation, tokens per second", ja: "生成速度(トークン/秒)" },
  "charts.prompt_per_second": { en: "Prompt, tokens per second", ja: "プロンプト処理速度(トークン/秒)" },
  "charts.first_token_seconds": { en: "Time to the first token", ja: "最初のトークンまでの時間" },
  "charts.workload": { en: "Workload", ja: "ワークロード" },
  "charts.median": { en: "Median, 95 % interval", ja: "中央値(95 % 信頼区間)" },
  "charts.runs": { en: "Runs", ja: "実行回数" },
  "charts.text": { en: "text", ja: "テキスト" },
  "charts.warm": { en: "warm", ja: "キャッシュ済み" },
  "charts.at_depth": { en: "at {n}", ja: "(深さ {n})" },
  "charts.disturbed": { en: "What disturbed or limited it", ja: "計測への影響・制約" },
  "charts.disturbed_by": { en: "Disturbed by", ja: "影響" },
  "charts.samples": { en: "All runs", ja: "すべての実行" },
  "charts.compared": { en: "{second} compared with {first}", ja: "{first} に対する {second} の比較" },
  "charts.ratios": { en: "Figures of {second} divided by those of {first}, with the 95 % interval", ja: "{first} を 1 としたときの {second} の比(95 % 信頼区間)" },
  "charts.figure": { en: "Figure", ja: "指標" },
  "charts.ratio": { en: "Ratio", ja: "比" },
  "charts.means": { en: "Which means", ja: "判定" },
  "charts.interval": { en: "{ratio} ({low} to {high})", ja: "{ratio}({low}〜{high})" },
  "charts.not_measured": { en: "not measured in both", ja: "片方でのみ計測" },
  "charts.too_few": { en: "too few runs to tell", ja: "実行回数が足りず判定できません" },
  "charts.no_difference": { en: "no difference seen", ja: "差は認められません" },
  "charts.rate_times": { en: "{id} is {times} times as fast", ja: "{id} は {times} 倍の速さです" },
  "charts.rate_more": { en: "{id} is {percent} faster", ja: "{id} のほうが {percent} 速いです" },
  "charts.rate_less": { en: "{id} is {percent} slower", ja: "{id} のほうが {percent} 遅いです" },
  "charts.time_times": { en: "{id} takes {times} times as long", ja: "{id} は {times} 倍の時間がかかります" },
  "charts.time_more": { en: "{id} takes {percent} longer", ja: "{id} のほうが {percent} 長くかかります" },
  "charts.time_less": { en: "{id} takes {percent} less", ja: "{id} のほうが {percent} 短く済みます" },
  "charts.differences": { en: "What else is different", ja: "その他の違い" },
  "charts.only_in": { en: { one: "{n} workload is only in {id}.", other: "{n} workloads are only in {id}." }, ja: "{id} にのみあるワークロードが {n} 件あります。" },
  "charts.tune_of": { en: "Tuning of {profile}", ja: "{profile} のチューニング" },
  "charts.never_tuned": { en: "{profile} has not been tuned here yet.", ja: "{profile} のチューニング結果はまだありません。" },
  "charts.faster": { en: "{ratio} times as fast as {profile} for {goal} (95 %: {low} to {high}; {n} trials in {time}).", ja: "{goal} で {profile} の {ratio} 倍の速さです(95 %: {low}〜{high}、{time} で {n} 回試行)。" },
  "charts.already_best": { en: "The settings of {profile} are the best found for {goal} ({n} trials in {time}); nothing was written.", ja: "{goal} では {profile} の現在の設定が最良でした({time} で {n} 回試行)。ファイルは作成していません。" },
  "charts.written": { en: "Written", ja: "作成したファイル" },
  "charts.former": { en: "The file before", ja: "以前のファイル" },
  "charts.generation_by": { en: "Generation by {setting}, tokens per second", ja: "{setting} ごとの生成速度(トークン/秒)" },
  "charts.prompt_by": { en: "Prompt by {setting}, tokens per second", ja: "{setting} ごとのプロンプト処理速度(トークン/秒)" },
  "charts.settings": { en: "Settings", ja: "設定" },
  "charts.setting": { en: "Setting", ja: "項目" },
  "charts.was": { en: "Was", ja: "変更前" },
  "charts.is_now": { en: "Is now", ja: "変更後" },
  "charts.effect": { en: "Effect", ja: "効果" },
  "charts.surface": { en: "What each value does", ja: "各設定値の効果" },
  "charts.surface_about": { en: "Only trials that differ in one setting are on one line. The vertical lines are 95 % intervals.", ja: "1 本の線には、その設定だけが異なる試行を並べています。縦線は 95 % 信頼区間です。" },
  "charts.no_surface": { en: "No setting was measured with two values while all else stayed the same.", ja: "他の条件を揃えて複数の値を計測した設定はありません。" },
  "charts.line_summary": { en: "The highest is {rate} with {label} {value}.", ja: "最高値は {label} が {value} のときの {rate} です。" },
  "charts.value": { en: "Value", ja: "値" },
  "charts.tokens_per_second": { en: "Tokens per second", ja: "トークン/秒" },
  "charts.trials": { en: { one: "{n} trial, the quickest first", other: "{n} trials, the quickest first" }, ja: "試行 {n} 回(速い順)" },
  "charts.as_it_is": { en: "as the profile is", ja: "プロファイルのまま" },
  "charts.outcome": { en: "Outcome", ja: "結果" },
  "charts.measured": { en: "measured", ja: "計測済み" },

  "usage.by": { en: "Group by", ja: "集計単位" },
  "usage.by_key": { en: "Key", ja: "キー" },
  "usage.by_model": { en: "Model", ja: "モデル" },
  "usage.by_day": { en: "Day", ja: "日" },
  "usage.since": { en: "Since", ja: "期間" },
  "usage.days": { en: { one: "today", other: "the last {n} days" }, ja: "過去 {n} 日間" },
  "usage.caption": { en: "Usage by {by}, from {since} to {until}", ja: "{by}別の使用量({since} から {until} まで)" },
  "usage.nothing": { en: "No request has been counted since {since}.", ja: "{since} 以降のリクエストはありません。" },
  "usage.output_tokens": { en: "Tokens out", ja: "出力トークン" },
  "usage.prompt_tokens": { en: "Tokens in", ja: "入力トークン" },
  "usage.cached_tokens": { en: "Of which cached", ja: "うちキャッシュ" },
  "usage.requests": { en: "Requests", ja: "リクエスト数" },
  "usage.failed": { en: "Failed", ja: "失敗" },
  "usage.seconds": { en: "Time", ja: "時間" },
  "usage.nobody": { en: "without a key", ja: "キーなし" },
  "usage.no_model": { en: "no model", ja: "モデルなし" },
  "usage.uncounted": { en: { one: "The tokens of {n} request are not known.", other: "The tokens of {n} requests are not known." }, ja: "{n} 件のリクエストについては、トークン数が不明です。" },
  "usage.all": { en: "All", ja: "合計" },
  "usage.keys": { en: "Keys and their limits", ja: "キーと制限" },
  "usage.no_keys": { en: "There are no keys. To make one:", ja: "キーはありません。作成するには次を実行します:" },
  "usage.key_name": { en: "Key", ja: "キー" },
  "usage.key_scope": { en: "Scope", ja: "スコープ" },
  "usage.key_models": { en: "Models", ja: "モデル" },
  "usage.key_rate": { en: "Rate", ja: "レート" },
  "usage.key_requests": { en: "Requests today", ja: "本日のリクエスト" },
  "usage.key_tokens": { en: "Tokens today", ja: "本日のトークン" },
  "usage.key_expires": { en: "Expires", ja: "有効期限" },
  "usage.any": { en: "all", ja: "すべて" },
  "usage.no_limit": { en: "no limit", ja: "制限なし" },
  "usage.expired": { en: "expired", ja: "期限切れ" },
  "usage.never": { en: "never", ja: "なし" },

  "jobs.start": { en: "Start a job", ja: "ジョブの開始" },
  "jobs.pull": { en: "Get a model", ja: "モデルの取得" },
  "jobs.update": { en: "Update the engine", ja: "エンジンの更新" },
  "jobs.bench": { en: "Measure", ja: "計測" },
  "jobs.tune": { en: "Tune", ja: "チューニング" },
  "jobs.running": { en: "Running jobs", ja: "実行中のジョブ" },
  "jobs.running_for": { en: "for {time}", ja: "{time} 経過" },
  "jobs.cancel": { en: "Cancel job", ja: "中止する" },
  "jobs.cancel_what": { en: "Cancel {words}", ja: "{words} の中止" },
  "jobs.cancel_goes_on": { en: "What it has done so far is kept. Start the same job again to continue from there.", ja: "これまでの結果は保持されます。同じジョブを後で実行すると、続きから再開します。" },
  "jobs.cancel_about": { en: "What it changed is restored.", ja: "処理のために変更したものは元に戻します。" },
  "jobs.ended": { en: "Ended jobs", ja: "終了したジョブ" },
  "jobs.none": { en: "No job has ended since the daemon started.", ja: "デーモンの起動後に終了したジョブはありません。" },
  "jobs.command": { en: "Command", ja: "コマンド" },
  "jobs.began": { en: "Started", ja: "開始" },
  "jobs.took": { en: "Took", ja: "所要時間" },
  "jobs.outcome": { en: "Outcome", ja: "結果" },
  "jobs.done": { en: "done", ja: "完了" },
  "jobs.failed": { en: "failed", ja: "失敗" },
  "jobs.cancelled": { en: "cancelled", ja: "中止" },
  "jobs.was_cancelled": { en: "{what}: cancelled", ja: "{what}: 中止しました" },
  "jobs.superseded": { en: "superseded", ja: "置き換え" },
  "jobs.see": { en: "Chart of {name}", ja: "{name} のグラフ" },
  "jobs.faster": { en: "{ratio} times as fast.", ja: "{ratio} 倍の速さになりました。" },
  "jobs.already_best": { en: "Nothing better was found.", ja: "改善は見つかりませんでした。" },
  "jobs.servers": { en: "Servers", ja: "サーバー" },
  "jobs.available": { en: "{tag} is available; {now} is in use.", ja: "{tag} に更新できます。現在は {now} を使用しています。" },
  "jobs.newest": { en: "Nothing newer than {now}.", ja: "{now} より新しいビルドはありません。" },
  "jobs.nothing": { en: "nothing", ja: "なし" },
  "jobs.search": { en: "Search the Hugging Face hub for models in GGUF that fit here", ja: "このマシンに収まる GGUF モデルを Hugging Face Hub で検索" },
  "jobs.search_go": { en: "Search", ja: "検索" },
  "jobs.searching": { en: "Asking the hub…", ja: "検索しています…" },
  "jobs.found": { en: "Models found", ja: "検索結果" },
  "jobs.model_name": { en: "Model", ja: "モデル" },
  "jobs.size": { en: "Size", ja: "サイズ" },
  "jobs.fits": { en: "Fits here", ja: "このマシンでの動作" },
  "jobs.downloads": { en: "Downloads", ja: "ダウンロード数" },
  "jobs.gated": { en: "gated: you must accept its terms on the hub first", ja: "配布制限あり(Hub で利用条件への同意が必要)" },
  "jobs.here": { en: "on this machine", ja: "ダウンロード済み" },
  "jobs.download": { en: "Download", ja: "ダウンロード" },
  "jobs.model": { en: "Or enter its name: OWNER/REPO:FILE, or a profile", ja: "名前を指定: OWNER/REPO:FILE またはプロファイル名" },
  "jobs.pull_what": { en: "Download {model}", ja: "{model} のダウンロード" },
  "jobs.pull_about": { en: "A download does not disturb any server. If it is interrupted, it continues from there.", ja: "ダウンロードはサーバーの動作に影響しません。中断しても続きから再開できます。" },
  "jobs.local": { en: { one: "{n} model ({size}) is on this machine.", other: "{n} models ({size}) are on this machine." }, ja: "このマシンには {n} 個のモデル({size})があります。" },
  "jobs.update_about": { en: "The newest llama.cpp of the channel is downloaded and tested while the current one keeps running.", ja: "チャンネルの最新の llama.cpp をダウンロードし、現在のものを動かしたままテストします。" },
  "jobs.last_check": { en: "Last check", ja: "最後の確認" },
  "jobs.check": { en: "Check for an update", ja: "更新を確認" },
  "jobs.update_title": { en: "Update the engine?", ja: "エンジンを更新しますか?" },
  "jobs.update_moves": { en: "{servers}: each is restarted with the new build, one after the other; requests wait meanwhile.", ja: "{servers} を、新しいビルドで順番に再起動します。その間、リクエストは待機します。" },
  "jobs.update_idle": { en: "No server runs now: the next start takes the new build.", ja: "動作中のサーバーはありません。次回の起動から新しいビルドを使います。" },
  "jobs.update_back": { en: "If the new build does not become ready or is slower, all servers go back to the current one.", ja: "新しいビルドが起動しない場合や遅くなる場合は、すべて現在のビルドに戻します。" },
  "jobs.bench_about": { en: "Measures how fast profiles are on this machine, as clients see it. The result appears in Charts.", ja: "クライアントから見たプロファイルの速度を、このマシンで計測します。結果はグラフに保存されます。" },
  "jobs.bench_what": { en: "Measure {profiles}", ja: "{profiles} の計測" },
  "jobs.bench_go": { en: "Measure…", ja: "計測する…" },
  "jobs.profiles": { en: "Profiles", ja: "プロファイル" },
  "jobs.profile": { en: "Profile", ja: "プロファイル" },
  "jobs.scenarios": { en: "Scenarios", ja: "シナリオ" },
  "jobs.scenario_chat": { en: "chat: a short question, an answer of 256 tokens", ja: "chat: 短い質問と 256 トークンの回答" },
  "jobs.scenario_agent": { en: "agent: prompts of 8,000 to 32,000 tokens", ja: "agent: 8,000〜32,000 トークンのプロンプト" },
  "jobs.scenario_batch": { en: "batch: 8 clients at once", ja: "batch: 8 クライアント同時" },
  "jobs.scenario_article": { en: "article: one question in plain text, up to 512 tokens of answer", ja: "article: 通常の文章での質問 1 件と最大 512 トークンの回答" },
  "jobs.polite": { en: "Let other requests go first (takes longer)", ja: "他のリクエストを優先する(時間が長くかかります)" },
  "jobs.begin": { en: "Start", ja: "開始" },
  "jobs.disturbs_nothing": { en: "No server is running, so this disturbs nobody.", ja: "動作中のサーバーはないため、影響はありません。" },
  "jobs.disturbs": { en: "{servers}: requests wait meanwhile, and models may be unloaded for it. What runs now runs again at the end.", ja: "{servers}: その間リクエストは待機し、モデルがアンロードされることがあります。終了後は元の状態に戻ります。" },
  "jobs.disturbs_polite": { en: "{servers}: requests pass, but are slow meanwhile. What runs now runs again at the end.", ja: "{servers}: リクエストは処理されますが、その間は遅くなります。終了後は元の状態に戻ります。" },
  "jobs.busy_now": { en: { one: "{n} request is being answered now.", other: "{n} requests are being answered now." }, ja: "現在 {n} 件のリクエストに応答中です。" },
  "jobs.tune_about": { en: "Tries settings one after the other, and saves the fastest as a new profile. Answers stay the same.", ja: "設定を順に試し、最速のものを新しいプロファイルとして保存します。回答の内容は変わりません。" },
  "jobs.tune_what": { en: "Tune {profile}", ja: "{profile} のチューニング" },
  "jobs.tune_go": { en: "Tune…", ja: "チューニングする…" },
  "jobs.goal": { en: "Make it fast for", ja: "用途" },
  "jobs.goal_balanced": { en: "balanced", ja: "balanced(バランス)" },
  "jobs.goal_chat": { en: "chat", ja: "chat(チャット)" },
  "jobs.goal_agent": { en: "agent", ja: "agent(エージェント)" },
  "jobs.goal_batch": { en: "batch", ja: "batch(一括処理)" },
  "jobs.budget": { en: "Time limit", ja: "制限時間" },
  "jobs.more": { en: "More", ja: "詳細設定" },
  "jobs.fix": { en: "Keep as they are (keys, separated by spaces)", ja: "変更しない項目(空白区切り)" },
  "jobs.vary": { en: "Also try these values (KEY=A,B, separated by spaces)", ja: "追加で試す値(KEY=A,B、空白区切り)" },
};

/** @typedef {keyof typeof TEXTS} Key */

/**
 * What the daemon says often, in Japanese; what is not here is shown as it says it.
 * @type {[RegExp, string][]}
 */
const TOLD_JA = [
  [/^loaded next to (.+)$/, "$1 と並べてロードしました"],
  [/^loaded in place of (.+)$/, "$1 の代わりにロードしました"],
  [/^unloaded for (.+)$/, "$1 のためにアンロードしました"],
  [/^starting, about (\d+%) of the model loaded$/, "起動中です (モデルの約 $1 をロードしました)"],
  [/^about (\d+%) of the model loaded$/, "モデルの約 $1 をロードしました"],
  [/^the next request loads it$/, "次のリクエストでロードします"],
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

  /** As many digits as tell something: 0.82, 45.2, 412, 1,682. @param {number} value */
  figure(value) {
    const size = Math.abs(value);
    const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
    return this.number(value, digits);
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
