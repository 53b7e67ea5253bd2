import { describe, expect, test } from 'vitest'
import { matches, sorted } from '../src/filter'
import { parse, podHref } from '../src/route'
import type { Pod } from '../src/types'

const pod = (ns: string, name: string, more: Partial<Pod> = {}): Pod => ({
  ns, name, uid: `${ns}/${name}`, status: 'Running', level: 'ok', ready: 1, total: 1, restarts: 0, created: 1000, ...more,
})

describe('matches', () => {
  const p = pod('shop', 'cart-1', { status: 'CrashLoopBackOff', node: 'Harbour-1', owner: 'Deployment/cart' })
  test.each([
    ['', true], ['   ', true], ['cart', true], ['CART crash', true], ['cart other', false], ['-cart', false], ['-other', true],
    ['ns:shop', true], ['ns:cart', false], ['status:crash node:harbour', true], ['-status:running', true], ['unknown:x', false], ['deployment/', true],
  ])('%s: %s', (text, want) => expect(matches(p, text)).toBe(want))
})

describe('sorted', () => {
  const a = pod('a', 'x', { restarts: 3, created: 10 })
  const b = pod('b', 'y', { level: 'error', created: 30 })
  const c = pod('a', 'z', { level: 'warn', created: 20 })
  const cpu = (p: Pod) => ({ x: 0.1, z: 0.3 })[p.name] ?? null
  const names = (list: Pod[]) => list.map((p) => p.name).join('')
  test.each([
    ['name', false, 'xzy'], ['name', true, 'yzx'], ['status', false, 'yzx'], ['restarts', true, 'xzy'],
    ['age', false, 'yzx'], ['age', true, 'xzy'], ['cpu', true, 'zxy'], ['cpu', false, 'xzy'],
  ] as const)('by %s, down %s', (key, down, want) => expect(names(sorted([b, c, a], { key, down }, cpu, () => null))).toBe(want))
})

test('routes', () => {
  expect(parse('#/pod/shop/cart-1')).toEqual({ view: 'pod', ns: 'shop', name: 'cart-1' })
  expect(parse(podHref('a', 'b.c'))).toEqual({ view: 'pod', ns: 'a', name: 'b.c' })
  expect(parse('#/trace/00ff')).toEqual({ view: 'trace', id: '00ff' })
  for (const bad of ['', '#', '#/pod/x', '#/trace/../x', '#/trace/xyz', '#/pod/%E0%A4%A/x']) {
    expect(parse(bad).view).toBe(bad.startsWith('#/pod/%') ? 'pod' : 'home')
  }
})
