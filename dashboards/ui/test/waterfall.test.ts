import { describe, expect, test } from 'vitest'
import type { Span } from '../src/types'
import { layout, ticks } from '../src/waterfall'

const span = (id: string, parent: string, start: number, duration: number, service = 'a'): Span => ({
  id, parent, name: id, service, start, duration, error: false, attrs: [], events: [],
})

describe('layout', () => {
  test('orders as a tree, children by start, and places bars', () => {
    const w = layout([span('c2', 'root', 60, 20, 'b'), span('root', '', 0, 100), span('c1', 'root', 10, 40), span('g', 'c1', 20, 10, 'c')])
    expect(w.rows.map((r) => [r.span.id, r.depth])).toEqual([['root', 0], ['c1', 1], ['g', 2], ['c2', 1]])
    expect(w.rows.map((r) => [r.left, r.width].map((n) => +n.toFixed(6)))).toEqual([[0, 1], [0.1, 0.4], [0.2, 0.1], [0.6, 0.2]])
    expect(w.services).toEqual(['a', 'c', 'b'])
    expect(w.length).toBe(100)
    expect(w.breaks).toEqual([])
  })
  test('shows spans whose parent is not stored, marked', () => {
    const w = layout([span('x', 'gone', 5, 5), span('root', '', 0, 10)])
    expect(w.rows.map((r) => [r.span.id, r.orphan])).toEqual([['root', false], ['x', true]])
  })
  test('shows spans in a ring once each', () => {
    const w = layout([span('a', 'b', 0, 1), span('b', 'a', 1, 1), span('self', 'self', 2, 1)])
    expect(w.rows.map((r) => r.span.id).sort()).toEqual(['a', 'b', 'self'])
  })
  test('shortens long idle times and nothing else', () => {
    const w = layout([span('first', '', 0, 100), span('late', 'first', 10_000, 100)])
    expect(w.breaks).toHaveLength(1)
    expect(w.breaks[0]).toMatchObject({ us: 9900 })
    const [first, late] = w.rows
    expect(first!.width).toBeCloseTo(0.475)
    expect(late!.left).toBeCloseTo(0.525)
    expect(late!.left + late!.width).toBeCloseTo(1)
    expect(w.ticks.map((t) => t.us)).toContain(10_000)
  })
  test('many idle times leave room for the spans', () => {
    const w = layout(Array.from({ length: 40 }, (_, i) => span(`s${i}`, '', i * 1000, 1)))
    const last = w.rows.at(-1)!
    expect(last.left + last.width).toBeLessThanOrEqual(1.000001)
    expect(w.rows.every((r) => r.width > 0)).toBe(true)
  })
  test('is not upset by nothing, or by spans without length', () => {
    expect(layout([]).rows).toEqual([])
    const w = layout([span('a', '', 0, 0)])
    expect(w.rows[0]).toMatchObject({ left: 0, width: 0 })
  })
  test('a deep chain does not overflow', () => {
    const deep = Array.from({ length: 20_000 }, (_, i) => span(`s${i}`, i ? `s${i - 1}` : '', i, 20_000 - i))
    expect(layout(deep).rows.at(-1)!.depth).toBe(19_999)
  })
})

test.each([
  [100, 5, [0, 20, 40, 60, 80]],
  [1_000_000, 5, [0, 200_000, 400_000, 600_000, 800_000]],
  [7, 5, [0, 2, 4, 6]],
  [0, 5, [0]],
])('ticks of %d in at most %d parts', (length, most, want) => expect(ticks(length, most)).toEqual(want))
