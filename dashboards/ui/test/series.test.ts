import { describe, expect, test } from 'vitest'
import { add, fromPast, merge, points, spark, step, stepOf } from '../src/series'

const at = (n: number) => n * step + 100

describe('add', () => {
  test('starts, replaces within a step, appends, leaves gaps', () => {
    let s = add(undefined, at(10), 1)
    expect(s.values).toHaveLength(points)
    expect(s.values.at(-1)).toBe(1)
    s = add(s, at(10) + 1000, 2)
    expect(s.values.slice(-2)).toEqual([null, 2])
    s = add(s, at(13), 3)
    expect(s.values.slice(-4)).toEqual([2, null, null, 3])
    expect(s.end).toBe(13)
    expect(s.values).toHaveLength(points)
  })
  test('refuses the past and forgets what is older than the window', () => {
    const s = add(undefined, at(100), 1)
    expect(add(s, at(99), 5)).toBe(s)
    expect(add(s, at(100 + points), 7).values.filter((v) => v !== null)).toEqual([7])
  })
  test('does not change what it was given', () => {
    const s = add(undefined, at(1), 1)
    const before = s.values.slice()
    add(s, at(1), 9)
    add(s, at(2), 9)
    expect(s.values).toEqual(before)
  })
})

test('merge takes the live value where there is one', () => {
  const past = fromPast([1, 2, 3], 20)
  const live = add(add(undefined, at(20), 30), at(21), 40)
  expect(merge(past, live).values.slice(-4)).toEqual([1, 2, 30, 40])
  expect(merge(past, undefined)).toBe(past)
  expect(stepOf(at(21))).toBe(21)
})

describe('spark', () => {
  test('scales from zero to the greatest value', () => {
    const p = spark([0, 5, 10], 100, 23)
    expect(p.line).toBe('M0 21.5L50 11.5L100 1.5')
    expect(p.area).toBe('M0 21.5L50 11.5L100 1.5L100 23L0 23Z')
    expect(p.max).toBe(10)
  })
  test('a floor keeps small values small', () => expect(spark([1, 1], 10, 13, 10).line).toBe('M0 10.5L10 10.5'))
  test('missing values break the line and single ones are seen', () => {
    const p = spark([1, null, 1], 10, 13)
    expect(p.line).toBe('M0 1.5h0.01M10 1.5h0.01')
    expect(p.area.match(/Z/g)).toHaveLength(2)
  })
  test('nothing is nothing', () => expect(spark([null, null], 10, 10)).toEqual({ line: '', area: '', max: 0 }))
  test('all zero lies on the ground', () => expect(spark([0, 0], 10, 10).line).toBe('M0 8.5L10 8.5'))
})
