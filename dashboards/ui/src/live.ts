import { useLayoutEffect, useState } from 'preact/hooks'
import { add, fromPast, merge, stepOf, type Series } from './series'
import { sectionNames, type History, type SectionName, type Sections } from './types'

export type Link = 'connecting' | 'live' | 'lost'

/** Everything the page knows. Components subscribe to what they show. */
export class Live {
  readonly sections: Partial<Sections> = {}
  link: Link = 'connecting'
  heard = 0 // when the stream last said something

  private readonly series = new Map<string, Series>()
  private readonly listeners = new Map<string, Set<() => void>>()
  private source: EventSource | undefined
  private watchdog: ReturnType<typeof setInterval> | undefined

  start(): void {
    this.open()
    // The server is heard at least every ten seconds; a browser may take
    // minutes to notice that nobody is there.
    this.watchdog = setInterval(() => {
      if (this.link === 'live' && Date.now() - this.heard > 25_000) this.reopen()
    }, 5000)
  }

  stop(): void {
    clearInterval(this.watchdog)
    this.source?.close()
  }

  /** Tries again at once. */
  reopen(): void {
    this.source?.close()
    this.setLink('lost')
    this.open()
  }

  private open(): void {
    const source = new EventSource('/ui/api/stream')
    this.source = source
    for (const name of sectionNames) {
      source.addEventListener(name, (e) => this.take(name, JSON.parse((e as MessageEvent<string>).data)))
    }
    source.addEventListener('ready', () => {
      this.setLink('live')
      void this.loadPast()
    })
    source.onerror = () => {
      this.setLink('lost')
      // A refusal ends an EventSource for good; a broken line does not.
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        setTimeout(() => this.source === source && this.open(), 3000)
      }
    }
  }

  private setLink(link: Link): void {
    if (link === 'live') this.heard = Date.now()
    if (this.link === link) return
    this.link = link
    this.tell('link')
  }

  private take<N extends SectionName>(name: N, data: Sections[N]): void {
    this.heard = Date.now()
    this.sections[name] = data
    if (name === 'usage') this.record()
    this.tell(name)
  }

  /** Appends what is used now, and the counts of the overview, to the series. */
  private record(): void {
    const { usage, pods, nodes, alerts, hpas, api } = this.sections
    if (!usage) return
    const put = (key: string, value: number | null) => this.series.set(key, add(this.series.get(key), usage.at, value))
    for (const [key, u] of Object.entries(usage.pods)) {
      put(`pod/${key}/cpu`, u.cpu)
      put(`pod/${key}/memory`, u.memory)
    }
    for (const [key, u] of Object.entries(usage.nodes)) {
      put(`node/${key}/cpu`, u.cpu)
      put(`node/${key}/memory`, u.memory)
    }
    put('overview/ingest', usage.ingest)
    if (nodes) put('overview/nodes', nodes.filter((n) => n.status.startsWith('Ready')).length)
    if (pods) put('overview/pods', pods.filter((p) => p.level === 'ok' || p.status === 'Running').length)
    if (alerts) put('overview/alerts', alerts.filter((a) => a.state === 'firing').length)
    if (api) put('overview/requests', api.rate)
    for (const h of hpas ?? []) put(`hpa/${h.ns}/${h.name}`, h.current)
    this.prune()
  }

  /** Forgets series of pods that are gone. */
  private prune(): void {
    const oldest = stepOf(Date.now()) - 120
    for (const [key, s] of this.series) if (s.end < oldest) this.series.delete(key)
  }

  private async loadPast(): Promise<void> {
    const answer = await fetch('/ui/api/history').catch(() => undefined)
    if (!answer?.ok) return // the sparklines grow from now on
    const past = (await answer.json()) as History
    const end = stepOf(past.start) + past.points - 1
    const put = (key: string, values: (number | null)[]) => {
      if (values.length) this.series.set(key, merge(fromPast(values, end), this.series.get(key)))
    }
    for (const [key, u] of Object.entries(past.pods)) {
      put(`pod/${key}/cpu`, u.cpu)
      put(`pod/${key}/memory`, u.memory)
    }
    for (const [key, u] of Object.entries(past.nodes)) {
      put(`node/${key}/cpu`, u.cpu)
      put(`node/${key}/memory`, u.memory)
    }
    for (const [key, values] of Object.entries(past.replicas)) put(`hpa/${key}`, values)
    for (const [key, values] of Object.entries(past.overview)) put(`overview/${key}`, values)
    this.tell('usage')
  }

  /** The values of a series, up to the step of the newest figures. */
  values(key: string): (number | null)[] {
    return this.series.get(key)?.values ?? []
  }

  /** The sum of several series, where at least one has a value. */
  sum(keys: string[]): (number | null)[] {
    const all = keys.map((k) => this.series.get(k)).filter((s): s is Series => !!s)
    if (all.length === 0) return []
    const end = Math.max(...all.map((s) => s.end))
    const length = Math.max(...all.map((s) => s.values.length))
    const out: (number | null)[] = []
    for (let i = end - length + 1; i <= end; i++) {
      let sum: number | null = null
      for (const s of all) {
        const v = s.values[s.values.length - 1 - (s.end - i)]
        if (v !== null && v !== undefined) sum = (sum ?? 0) + v
      }
      out.push(sum)
    }
    return out
  }

  subscribe(topic: string, f: () => void): () => void {
    const set = this.listeners.get(topic) ?? new Set()
    this.listeners.set(topic, set)
    set.add(f)
    return () => set.delete(f)
  }

  private tell(topic: string): void {
    for (const f of this.listeners.get(topic) ?? []) f()
  }
}

export const live = new Live()

/** Renders again when one of the topics changes. */
export function useTopics(...topics: (SectionName | 'link')[]): void {
  const [, set] = useState(0)
  useLayoutEffect(() => {
    const ends = topics.map((t) => live.subscribe(t, () => set((n) => n + 1)))
    return () => ends.forEach((end) => end())
  }, [])
}

export function useSection<N extends SectionName>(name: N): Sections[N] | undefined {
  useTopics(name)
  return live.sections[name]
}

/** The present time, renewed every second, for ages. */
export function useNow(): number {
  const [now, set] = useState(Date.now())
  useLayoutEffect(() => {
    const t = setInterval(() => set(Date.now()), 1000)
    return () => clearInterval(t)
  }, [])
  return now
}
