import { describe, expect, test } from 'vitest'
import { age, amount, bytes, clock, cores, count, digits, duration, percent, plural, unknown } from '../src/format'

const table = <T>(name: string, f: (v: T) => string, cases: [T, string][]) =>
  describe(name, () => test.each(cases)('%s is %s', (value, want) => expect(f(value)).toBe(want)))

table('digits', digits, [
  [0, '0'], [1, '1'], [1234, '1234'], [12.345, '12.3'], [1.5, '1.5'], [0.012345, '0.0123'], [-2.5, '-2.5'], [100, '100'], [99.96, '100'],
])
table('cores', cores, [
  [0, '0'], [0.00004, '0'], [0.0012, '1.2m'], [0.002, '2m'], [0.0125, '13m'], [0.25, '250m'], [0.9996, '1'], [1.257, '1.26'], [64, '64'],
  [null, unknown], [undefined, unknown], [NaN, unknown],
])
table('bytes', bytes, [
  [0, '0 B'], [999, '999 B'], [1000, '0.977 KiB'], [1024, '1 KiB'], [134217728, '128 MiB'], [1.5 * 1024 ** 3, '1.5 GiB'], [1023 * 1024 ** 2, '0.999 GiB'], [null, unknown],
])
table('count', count, [[0, '0'], [950, '950'], [1234, '1.23k'], [999_600, '1M'], [7_000_000_000, '7G'], [null, unknown]])
table('age', age, [
  [0, '0s'], [-5000, '0s'], [119_000, '119s'], [120_000, '2m'], [192_000, '3m12s'], [600_000, '10m'], [10_799_000, '179m'],
  [10_800_000, '3h'], [19_200_000, '5h20m'], [100_000_000, '27h'], [172_800_000, '2d'], [270_000_000, '3d3h'], [864_000_000, '10d'], [null, unknown],
])
table('duration', duration, [[0, '0 µs'], [850.4, '850 µs'], [999.6, '1 ms'], [12_400, '12.4 ms'], [1_320_000, '1.32 s'], [125_000_000, '2m5s'], [null, unknown]])

test('percent', () => {
  expect(percent(1, 4)).toBe('25 %')
  expect(percent(0.001, 1)).toBe('0.1 %')
  expect(percent(0, 1)).toBe('0 %')
  expect(percent(1, 0)).toBe(unknown)
  expect(percent(null, 1)).toBe(unknown)
})

test('amounts have their units', () => {
  expect(amount(63, 'percent')).toBe('63 %')
  expect(amount(0.2, 'cores')).toBe('200m')
  expect(amount(1024, 'bytes')).toBe('1 KiB')
  expect(amount(1500, '')).toBe('1.5k')
  expect(amount(null, 'percent')).toBe(unknown)
})

test('clock shows the day only when it is another', () => {
  const noon = new Date(2026, 0, 2, 12, 3, 4).getTime()
  expect(clock(noon, noon + 1000)).toBe('12:03:04')
  expect(clock(noon, noon + 86_400_000)).toBe('2026-01-02 12:03:04')
})

test('plural', () => {
  expect(plural(1, 'pod')).toBe('1 pod')
  expect(plural(0, 'pod')).toBe('0 pods')
})
