/** What the daemon sends to its pages, and what the parts of the page are to each other; docs/gateway.md has the fields. */

export interface Failure {
  message: string;
  hint: string;
  at: string | null;
  log_tail: string[];
}

export interface ServerMemory {
  rss_bytes: number | null;
  anonymous_bytes: number | null;
  swap_bytes: number | null;
  planned_bytes: number | null;
  planned_gpu_bytes: Record<string, number>;
  gpu_bytes: number | null;
  measured_gpu_bytes: Record<string, number>;
  available_bytes: number | null;
  difference: string;
  warnings: string[];
}

export interface ServerStatus {
  name: string;
  state: string;
  why: string;
  placement: string;
  loaded_share?: number | null; // of a model that is being loaded
  since: string;
  profile: string | null;
  build: string | null;
  flavour: string | null;
  engine: string | null;
  model: string | null;
  aliases: string[];
  pid: number | null;
  url: string | null;
  uptime_seconds: number | null;
  restarts: number;
  requests_under_way: number;
  memory_bytes: number | null;
  memory: ServerMemory | null;
  context: { slots: number; tokens: number; expected_tokens: number; waiting: number; longest_seconds: number } | null;
  warnings: string[];
  held_by: { owner: string; why: string; since: string } | null;
  log: string;
  last_failure: Failure | null;
}

export interface Served {
  profile: string;
  names: string[];
  load: boolean;
  pinned: boolean;
  priority: number;
  idle_unload_seconds: number;
  state: string;
  trouble: string;
}

export interface DeviceMemory {
  device: string;
  name: string;
  total_bytes: number | null;
  left_bytes: number | null;
  leave_bytes: number | null;
  others_bytes: number | null;
  shares: { server: string; profile: string; planned_bytes: number | null; measured_bytes: number | null }[];
}

export interface Job {
  id: number;
  command: string;
  words: string;
  since: string;
  line: string;
  ended: string | null;
  exit_code: number | null;
  result: any;
  error: string;
  hint: string;
  superseded: boolean;
}

export interface Peer {
  name: string;
  url: string;
  state: "up" | "not ready" | "down" | "unknown";
  why: string;
  models: number;
  loaded: string[];
  requests_under_way: number;
}

export interface Status {
  schema: number;
  daemon: { pid: number; version: string; uptime_seconds: number; memory_bytes: number | null };
  servers: ServerStatus[];
  served: Served[];
  gateway: {
    connections: number;
    requests_under_way: number;
    requests_waiting: number;
    waiting: { profile: string; requests: number; longest_seconds: number; reason: string }[];
    peers?: Peer[];
  } | null;
  loads_waiting: { profile: string; models: string[]; text: string; seconds_left: number | null }[];
  update: { current?: string; available?: string | null; note?: string } | null;
  memory?: DeviceMemory[];
  jobs?: Job[];
}

export interface RequestRecord {
  number: number;
  at: number;
  caller: string;
  method: string;
  endpoint: string;
  profile: string;
  model: string;
  stream: boolean;
  status: number | null;
  result: "answered" | "refused" | "cancelled" | "broken" | "failed";
  replayed: boolean;
  held_seconds: number;
  context_wait_seconds: number;
  first_byte_seconds: number | null;
  seconds: number;
  request_bytes: number;
  answer_bytes: number;
  prompt_tokens: number | null;
  cached_tokens: number | null;
  output_tokens: number | null;
  partial_tokens: number | null;
  tokens_per_second: number | null;
  prompt_per_second: number | null;
  drafted_tokens: number | null;
  accepted_tokens: number | null;
  note: string;
}

export interface ActiveRequest {
  id: number;
  at: number;
  caller: string;
  endpoint: string;
  profile: string;
  model: string;
  stream: boolean;
  phase: "waiting" | "prompt" | "answer";
  why: string;
  output_tokens: number | null;
  tokens_per_second: number | null;
}

export interface Sample {
  at: number;
  devices: {
    device: string;
    name: string;
    load_percent: number | null;
    temperature_c: number | null;
    power_watts: number | null;
    power_limit_watts: number | null;
    memory_used_bytes: number | null;
    memory_total_bytes: number | null;
    fan_percent: number | null;
    clock_mhz: number | null;
    why: string;
  }[];
}

export interface Outcome {
  id: number;
  result: string;
  why: string;
  hint: string;
  profile: string;
  by: number;
}

/** What the page knows: replaced by another object with each event, never changed. */
export interface State {
  connection: "connecting" | "open" | "lost";
  boot: string;
  version: string;
  last: string; // id of the last event, to go on from there
  skew_seconds: number; // the daemon's clock less the browser's
  status: Status | null;
  requests: RequestRecord[]; // oldest first
  active: ActiveRequest[];
  hardware: Sample[]; // oldest first
  log: { server: string; first: number; lines: string[] }; // `first` numbers the first line that is kept
}

export type StreamEvent =
  | { kind: "open" | "lost" }
  | { kind: "hello"; data: { schema: number; boot: string; version: string; now: number; resumed: boolean }; id: string; at: number }
  | { kind: "status"; data: Status; id: string }
  | { kind: "requests"; data: { requests: RequestRecord[] }; id: string }
  | { kind: "active"; data: { active: ActiveRequest[] }; id: string }
  | { kind: "hardware"; data: { history?: Sample[]; samples?: Sample[]; sample?: Sample }; id: string }
  | { kind: "log"; data: { server: string; lines: string[]; reset: boolean }; id: string };

export interface Session {
  admin: boolean;
  can_edit: boolean;
  asks_for_key: boolean;
  version: string;
  prefix: string;
}

export interface Question {
  title: string;
  body?: import("./static/dom.js").Child[];
  action: string; // the words on the button that goes on
  danger?: boolean;
}

export interface Notice {
  /** Replace what it says; `done` and `error` end it. */
  say(kind: "progress" | "done" | "warning" | "error", text: string, hint?: string): void;
  close(): void;
}

/** What a view gets. */
export interface App {
  store: import("./static/store.js").Store;
  words: import("./static/words.js").Words;
  t: import("./static/words.js").Words["t"];
  session: Session;
  /** What follows the view's name in the fragment: `#logs/chat` is ["chat"]. */
  route: string[];
  /** Call with the state now, and once per frame after it changed, until the view is unmounted. */
  watch(draw: (state: State) => void): void;
  /** Draw again without a change of the state: something of the view's own changed. */
  redraw(): void;
  /** Every so many seconds while the page is looked at, until the view is unmounted. */
  every(seconds: number, call: () => void): void;
  /** Seconds since the epoch by the daemon's clock. */
  now(): number;
  /** Keep the fragment in step without mounting the view again. */
  replaceRoute(...route: string[]): void;
  /** A dialog with this question; true if the person goes on.  The focus returns to where it was. */
  confirm(question: Question): Promise<boolean>;
  /** A message that a screen reader says too. */
  notify(kind: "progress" | "done" | "warning" | "error", text: string, hint?: string): Notice;
  /**
   * Carry out what changes something, and show what becomes of it: progress, success, superseded, or the error
   * with its hint.  `what` says it in a few words ("Load chat").  True if it succeeded.
   */
  carryOut(what: string, work: (progress: (line: string) => void) => Promise<string | void>): Promise<boolean>;
}

export interface View {
  name: string;
  mount(root: HTMLElement, app: App): () => void;
}
