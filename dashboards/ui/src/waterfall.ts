import type { Span } from './types'

export interface Row {
  span: Span
  depth: number
  /** Share of the trace's length, 0 to 1. */
  left: number
  width: number
  service: number // index into services
  orphan: boolean // the parent is not stored
}

export interface Waterfall {
  rows: Row[]
  services: string[] // in order of appearance
  length: number // microseconds
  ticks: { us: number; at: number }[]
  /** Times in which no span ran, drawn short: left and width are shares. */
  breaks: { us: number; left: number; width: number }[]
}

/** Orders spans as a tree, children by start, and places their bars. */
export function layout(spans: Span[]): Waterfall {
  const known = new Map(spans.map((s) => [s.id, s]))
  const children = new Map<string, Span[]>()
  const roots: Span[] = []
  for (const s of spans) {
    if (s.parent && s.parent !== s.id && known.has(s.parent)) {
      const list = children.get(s.parent)
      if (list) list.push(s)
      else children.set(s.parent, [s])
    } else {
      roots.push(s)
    }
  }
  const byStart = (a: Span, b: Span) => a.start - b.start || b.duration - a.duration || (a.id < b.id ? -1 : 1)
  const length = Math.max(1, ...spans.map((s) => s.start + s.duration))
  const scale = scaleOf(spans, length)
  const services: string[] = []
  const rows: Row[] = []
  const seen = new Set<string>()
  const place = (top: Span) => {
    // A stack instead of recursion: traces may be deep.
    const stack: [Span, number][] = [[top, 0]]
    for (let next = stack.pop(); next; next = stack.pop()) {
      const [s, depth] = next
      if (seen.has(s.id)) continue
      seen.add(s.id)
      let service = services.indexOf(s.service)
      if (service < 0) service = services.push(s.service) - 1
      rows.push({
        span: s,
        depth,
        left: scale.at(s.start),
        width: scale.at(s.start + s.duration) - scale.at(s.start),
        service,
        orphan: depth === 0 && !!s.parent,
      })
      const below = (children.get(s.id) ?? []).slice().sort(byStart)
      for (const c of below.reverse()) stack.push([c, depth + 1])
    }
  }
  roots.sort(byStart).forEach(place)
  // Spans in a ring have no root: a sender is broken, but they are shown.
  spans.filter((s) => !seen.has(s.id)).sort(byStart).forEach((s) => !seen.has(s.id) && place(s))
  return { rows, services, length, ticks: scale.ticks, breaks: scale.breaks }
}

interface Piece {
  from: number // microseconds
  to: number
  left: number // share
  width: number
  idle: boolean
}

const idleShare = 0.05 // of the width that a long idle time is drawn with

/**
 * A scale on which long times without any span are short: what a controller
 * does seconds after a request belongs to the trace, and the request must stay
 * readable.
 */
function scaleOf(spans: Span[], length: number) {
  const busy: [number, number][] = []
  for (const s of spans.slice().sort((a, b) => a.start - b.start)) {
    const last = busy[busy.length - 1]
    const end = s.start + s.duration
    if (last && s.start <= last[1]) last[1] = Math.max(last[1], end)
    else busy.push([s.start, end])
  }
  const work = Math.max(1, busy.reduce((sum, [from, to]) => sum + to - from, 0))
  const pieces: Piece[] = []
  const put = (from: number, to: number, idle: boolean) => {
    const last = pieces[pieces.length - 1]
    if (last && !idle && !last.idle) last.to = to
    else pieces.push({ from, to, left: 0, width: 0, idle })
  }
  let at = 0
  for (const [from, to] of busy) {
    if (from > at) put(at, from, from - at > work / 2)
    put(from, to, false)
    at = to
  }
  if (at < length) put(at, length, length - at > work / 2)
  const idle = pieces.filter((p) => p.idle).length
  const share = Math.min(idleShare, 0.5 / Math.max(1, idle))
  const shown = Math.max(1, pieces.filter((p) => !p.idle).reduce((sum, p) => sum + p.to - p.from, 0))
  let left = 0
  for (const p of pieces) {
    p.left = left
    p.width = p.idle ? share : ((p.to - p.from) / shown) * (1 - idle * share)
    left += p.width
  }
  const where = (us: number): number => {
    const p = pieces.find((p) => us <= p.to) ?? pieces[pieces.length - 1]
    if (!p) return us / length
    return p.left + (p.to > p.from ? ((us - p.from) / (p.to - p.from)) * p.width : 0)
  }
  const marks: { us: number; at: number }[] = []
  const size = ticks(shown, 5)[1] ?? shown
  for (const p of pieces) {
    if (p.idle) continue
    for (let us = p.from; us < p.to; us += size) {
      const x = p.left + ((us - p.from) / (p.to - p.from)) * p.width
      const last = marks[marks.length - 1]
      // Too near to its neighbour or to the edge, a label would be cut.
      if ((!last || x - last.at > 0.09) && x < 0.94) marks.push({ us, at: x })
    }
  }
  return {
    at: where,
    ticks: marks,
    breaks: pieces.filter((p) => p.idle).map((p) => ({ us: p.to - p.from, left: p.left, width: p.width })),
  }
}

/** Round steps of 1, 2 or 5 that divide a length into at most `most` parts. */
export function ticks(length: number, most: number): number[] {
  if (length <= 0) return [0]
  let size = 10 ** Math.floor(Math.log10(length / most))
  for (const f of [1, 2, 5, 10]) {
    if (length / (size * f) <= most) {
      size *= f
      break
    }
  }
  const out: number[] = []
  for (let i = 0; i * size < length; i++) out.push(i * size)
  return out
}
