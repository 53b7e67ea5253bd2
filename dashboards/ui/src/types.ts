// The state as the server sends it: see the Go views of the same names.
// Times are Unix milliseconds unless a comment says otherwise.

export type Level = 'ok' | 'progress' | 'warn' | 'error' | 'done'

export interface Resources {
  cpuRequest?: number
  cpuLimit?: number
  memoryRequest?: number
  memoryLimit?: number
}

export interface Pod extends Resources {
  ns: string
  name: string
  uid: string
  owner?: string
  status: string
  level: Level
  message?: string
  ready: number
  total: number
  restarts: number
  created: number
  node?: string
  ip?: string
}

export interface Node {
  name: string
  status: string
  level: Level
  message?: string
  roles: string[]
  address?: string
  version?: string
  runtime?: string
  os?: string
  kernel?: string
  created: number
  cpu: number
  memory: number
  maxPods: number
  pods: number
  cpuAsked: number
  memoryAsked: number
}

export interface Workload {
  ns: string
  name: string
  desired: number
  ready: number
  updated: number
  level: Level
  status: string
  message?: string
  images: string[]
  created: number
}

export interface Metric {
  name: string
  unit: 'percent' | 'cores' | 'bytes' | ''
  target: number
  current: number | null
  average: boolean
}

export interface Decision {
  at: number
  text: string
  level: Level
  times?: number
}

export interface Condition {
  type: string
  status: string
  reason?: string
  message?: string
  since: number
}

export interface HPA {
  ns: string
  name: string
  target: string
  min: number
  max: number
  current: number
  desired: number
  metrics: Metric[]
  decision?: Decision
  lastScale?: Decision
  log: Decision[]
  conditions: Condition[]
}

export interface Alert {
  fingerprint: string
  name: string
  state: string
  severity?: string
  since: number
  labels: Record<string, string>
  summary?: string
  description?: string
  silenced: boolean
  inhibited: boolean
}

export interface ClusterEvent {
  ns: string
  object: string
  type: string
  reason: string
  message: string
  count: number
  last: number
  source?: string
}

export interface Trace {
  id: string
  name: string
  service: string
  services: string[]
  start: number
  duration: number // microseconds
  spans: number
  errors: number
}

export interface Traces {
  notable: Trace[]
  all: Trace[]
}

export interface Use {
  cpu: number | null
  memory: number | null
}

export interface Usage {
  at: number
  pods: Record<string, Use>
  nodes: Record<string, Use>
  ingest: number | null
}

export interface Verb {
  verb: string
  rate: number | null // requests a second
  errors: number | null // of the server's own, a second
  open: number | null // long-running requests under way
  median: number | null // seconds
  p99: number | null // seconds
}

/** Counted in seats, of which a request takes one or more. */
export interface PriorityLevel {
  name: string
  seats: number | null // none for a level without a bound
  used: number | null
  peak: number | null // the most that were wanted in the last ten seconds
  queued: number | null
  refused: number | null // requests a second
}

export interface Server {
  rate: number | null // requests a second
  auditErrors: number | null // in five minutes
  verbs: Verb[]
  levels: PriorityLevel[]
  slow: { verb: string; resource: string; count: number }[] // over a second, in five minutes
  store: { inUse: number | null; file: number | null; quota: number | null; full: string } // bytes
}

/** What the stream sends; a section that was never readable is missing. */
export interface Sections {
  nodes: Node[]
  pods: Pod[]
  workloads: Workload[]
  hpas: HPA[]
  alerts: Alert[]
  events: ClusterEvent[]
  traces: Traces
  usage: Usage
  api: Server
  problems: Record<string, string>
}

export type SectionName = keyof Sections

export const sectionNames: SectionName[] = ['nodes', 'pods', 'workloads', 'hpas', 'alerts', 'events', 'traces', 'usage', 'api', 'problems']

export type Points = (number | null)[]

export interface PastUse {
  cpu: Points
  memory: Points
}

export interface History {
  start: number
  step: number
  points: number
  pods: Record<string, PastUse>
  nodes: Record<string, PastUse>
  replicas: Record<string, Points>
  overview: Record<string, Points>
}

export interface Container extends Resources {
  name: string
  kind: 'container' | 'init' | 'sidecar'
  image: string
  state: string
  level: Level
  message?: string
  since?: number
  ready: boolean
  restarts: number
  lastExit?: string
  ports: string[]
}

export interface PodDetail {
  ns: string
  name: string
  labels: Record<string, string> | null
  qos: string
  serviceAccount: string
  containers: Container[]
  conditions: Condition[]
  events: ClusterEvent[]
  trace?: string
}

export interface Span {
  id: string
  parent?: string
  name: string
  service: string
  kind?: string
  start: number // microseconds since the trace began
  duration: number // microseconds
  error: boolean
  message?: string
  attrs: [string, string][]
  events: { at: number; name: string; attrs: [string, string][] }[]
}

export interface TraceDetail {
  id: string
  start: number
  spans: Span[]
}
