import { describe, expect, test } from 'vitest'
import { seatLevel, storeLevel } from '../src/api'
import type { PriorityLevel, Server } from '../src/types'

const seats = (l: Partial<PriorityLevel>): PriorityLevel => ({ name: 'system', seats: 10, used: 0, peak: 0, queued: 0, refused: null, ...l })

describe('a priority level', () => {
  test.each([
    [{}, 'ok'],
    [{ used: 10 }, 'ok'],
    [{ queued: 1 }, 'warn'],
    [{ queued: 1, refused: 0.1 }, 'error'],
    [{ queued: null, refused: 0 }, 'ok'],
  ] as const)('%j is %s', (l, want) => expect(seatLevel(seats(l))).toBe(want))
})

describe('the store', () => {
  const store = (s: Partial<Server['store']>): Server['store'] => ({ inUse: 10, file: 20, quota: 100, full: '', ...s })
  test.each([
    [{}, 'ok'],
    [{ inUse: 86 }, 'warn'],
    [{ inUse: 86, quota: null }, 'ok'],
    [{ inUse: null }, 'ok'],
    [{ full: 'disk' }, 'error'],
  ] as const)('%j is %s', (s, want) => expect(storeLevel(store(s))).toBe(want))
})
