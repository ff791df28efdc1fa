/** "offline": not sent. "lost": sent, but it is not known whether it was carried out. "timeout". */
export type RpcErrorCode = number | "offline" | "lost" | "timeout";

export class RpcError extends Error {
  constructor(code: RpcErrorCode, message: string, data?: unknown);
  readonly name: string;
  /** The server's number, or a word when there was no answer. */
  readonly code: RpcErrorCode;
  readonly data: any;
}

/** By name or by position. */
export type Params = Record<string, unknown> | readonly unknown[];

export type State = "connecting" | "open" | "waiting" | "closed";

export interface ConnectOptions {
  /** Milliseconds each call may take unless it says otherwise; default 30,000; 0: no limit. */
  timeout?: number;
  /** Milliseconds an attempt to connect may take; default 10,000. */
  connectTimeout?: number;
  /** Come back after a connection ended like this? Default: always, until close() is called. */
  reconnect?: boolean | ((code: number, reason: string) => boolean);
  /** Milliseconds before the first new attempt at most; doubled with each that fails; default 1,000. */
  firstWait?: number;
  /** What that grows to; default 30,000. */
  longestWait?: number;
  /** Subprotocols to offer. */
  protocols?: string | string[];
  /** Where there is none built in: the "ws" package's, for instance. */
  WebSocket?: new (url: string, protocols?: string | string[]) => unknown;
}

export interface CallOptions {
  /** Milliseconds; 0: no limit. */
  timeout?: number;
  /** When aborted, the call rejects with the signal's reason and the server is told to stop. */
  signal?: AbortSignal;
}

export interface ConnectionEvents {
  /** It is open, for the first time or again. Calls made here go out before those that waited. */
  open: Event;
  /** `state` has changed. */
  state: Event;
}

export class Connection extends EventTarget {
  constructor(url: string | URL, options?: ConnectOptions);
  readonly state: State;
  /** When the next attempt to connect comes, as Date.now() counts; 0 unless it is waiting. */
  readonly retryAt: number;
  /** How the last connection ended. */
  readonly lastClose: { code: number; reason: string } | null;

  /** Rejects with an RpcError. */
  call<Result = any>(method: string, params?: Params, options?: CallOptions): Promise<Result>;
  /** False when there is no connection: a notification is not kept. */
  notify(method: string, params?: Params): boolean;

  /** Listens to the server's notifications of that method. */
  on<P = any>(method: string, fn: (params: P) => void): this;
  /** Without fn: all of that method. */
  off(method: string, fn?: (params: any) => void): this;
  /** Answers the server's calls of that method; null: no longer. */
  handle<P = any>(method: string, fn: ((params: P) => unknown) | null): this;

  /** When waiting: tries to connect now. */
  retry(): void;
  /** Ends the connection for good. code: 1000, or 3000 to 4999. */
  close(code?: number, reason?: string): void;

  addEventListener<K extends keyof ConnectionEvents>(
    type: K,
    listener: (this: Connection, event: ConnectionEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Connects to a consumer. url: "/chat", or a whole address with ws:, wss:, http: or https:. */
export function connect(url: string | URL, options?: ConnectOptions): Connection;
