import type { Points } from './types'

/** A window of values at even steps; the last one belongs to `end`. */
export interface Series {
  end: number // number of the step that the last value belongs to
  values: Points
}

export const step = 5000 // milliseconds, as the server's history
export const points = 61 // five minutes

export const stepOf = (ms: number): number => Math.floor(ms / step)

/** Fits values that end at step `end` into a full window. */
export function fromPast(values: Points, end: number): Series {
  const kept = values.slice(-points)
  return { end, values: [...Array<null>(points - kept.length).fill(null), ...kept] }
}

/** Adds a value at a time: the same step is replaced, gaps stay empty, the past is refused. */
export function add(s: Series | undefined, ms: number, value: number | null): Series {
  const at = stepOf(ms)
  if (!s || at - s.end >= points) return fromPast([value], at)
  if (at < s.end) return s
  const values = s.values.slice()
  if (at === s.end) {
    values[values.length - 1] = value
    return { end: at, values }
  }
  for (let i = s.end + 1; i < at; i++) values.push(null)
  values.push(value)
  return { end: at, values: values.slice(-points) }
}

/** The past is taken where the live series has nothing. */
export function merge(past: Series, live: Series | undefined): Series {
  if (!live) return past
  const end = Math.max(past.end, live.end)
  const at = (s: Series, i: number) => s.values[s.values.length - 1 - (s.end - i)] ?? null
  const values: Points = []
  for (let i = end - points + 1; i <= end; i++) values.push(at(live, i) ?? at(past, i))
  return { end, values }
}

export interface SparkPaths {
  line: string
  area: string
  max: number
}

/**
 * Paths of a sparkline in a box of the given size. The scale begins at zero and
 * reaches at least `floor`; missing values break the line.
 */
export function spark(values: Points, width: number, height: number, floor = 0): SparkPaths {
  const known = values.filter((v): v is number => v !== null)
  const max = Math.max(floor, ...known, 0)
  if (known.length === 0) return { line: '', area: '', max }
  const pad = 1.5 // room for the stroke
  const x = (i: number) => round((i * width) / Math.max(1, values.length - 1))
  const y = (v: number) => round(height - pad - (max > 0 ? (Math.max(0, v) / max) * (height - 2 * pad) : 0))
  let line = ''
  let area = ''
  let from = -1
  for (let i = 0; i <= values.length; i++) {
    const v = values[i]
    if (v === null || v === undefined) {
      if (from >= 0) {
        // A single value is a dash, or nobody would see it.
        if (from === i - 1) line += `h0.01`
        area += `L${x(i - 1)} ${height}L${x(from)} ${height}Z`
      }
      from = -1
      continue
    }
    const p = `${x(i)} ${y(v)}`
    line += from < 0 ? `M${p}` : `L${p}`
    area += from < 0 ? `M${p}` : `L${p}`
    if (from < 0) from = i
  }
  return { line, area, max }
}

const round = (n: number): number => Math.round(n * 100) / 100
