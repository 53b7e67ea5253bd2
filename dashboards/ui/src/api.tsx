import { bytes, count, digits, duration, percent, plural, unknown } from './format'
import { live, useTopics } from './live'
import { Empty, Mark, Meter, Section, Spark } from './parts'
import type { Level, PriorityLevel, Server } from './types'

/** Requests a second, as far as one can tell them from none. */
const rate = (n: number | null): string => (n !== null && n > 0 && n < 0.01 ? '<0.01' : count(n))

/** Seconds that requests took. */
const took = (s: number | null): string => duration(s === null ? null : s * 1e6)

/** How full a store is that refuses to grow at its quota. */
export function storeLevel(s: Server['store']): Level {
  if (s.full) return 'error'
  return s.inUse !== null && s.quota && s.inUse / s.quota > 0.85 ? 'warn' : 'ok'
}

/** Requests that wait are a sign; refused ones are a fault. */
export function seatLevel(l: PriorityLevel): Level {
  if (l.refused) return 'error'
  return l.queued ? 'warn' : 'ok'
}

export function API() {
  useTopics('api', 'usage', 'problems')
  const { api } = live.sections
  return (
    <Section id="api" title="API" topic="api">
      {api && (
        <div class="api">
          <div class="api-facts">
            <figure id="api-requests">
              <figcaption>Requests</figcaption>
              <b class="num">{rate(api.rate)}/s</b>
              <Spark values={live.values('overview/requests')} label="Requests per second over the last five minutes" />
            </figure>
            <figure id="api-store">
              <figcaption>
                etcd {storeLevel(api.store) !== 'ok' && <Mark level={storeLevel(api.store)} />}
              </figcaption>
              <b class="num">{bytes(api.store.inUse)}</b>
              {api.store.quota !== null && (
                <Meter value={api.store.inUse} max={api.store.quota} ticks={[]} label={`${bytes(api.store.inUse)} in use of a quota of ${bytes(api.store.quota)}`} />
              )}
              <span class={api.store.full ? 'error' : 'dim'}>
                {api.store.full
                  ? `full: no room by ${api.store.full}, writes are refused`
                  : api.store.quota === null
                    ? 'no quota known'
                    : `${percent(api.store.inUse, api.store.quota)} of ${bytes(api.store.quota)} · file ${bytes(api.store.file)}`}
              </span>
            </figure>
            <figure id="api-slow">
              <figcaption>Slower than 1 s, in 5 min</figcaption>
              {api.slow.length === 0 && <span class="dim">none</span>}
              <ul>
                {api.slow.map((s) => (
                  <li key={`${s.verb} ${s.resource}`}>
                    <span>
                      {s.verb} {s.resource || '(no resource)'}
                    </span>
                    <b class="num">{Math.round(s.count)}</b>
                  </li>
                ))}
              </ul>
            </figure>
            <figure id="api-audit">
              <figcaption>
                Audit {!!api.auditErrors && <Mark level="error" />}
              </figcaption>
              {api.auditErrors === null ? (
                <span class="dim">not measured</span>
              ) : (
                <span class={api.auditErrors ? 'error' : 'dim'}>
                  {api.auditErrors ? `${plural(Math.ceil(api.auditErrors), 'event')} lost in 5 min` : 'no event lost in 5 min'}
                </span>
              )}
            </figure>
          </div>
          <div class="api-tables">
            <Verbs api={api} />
            <Levels api={api} />
          </div>
        </div>
      )}
    </Section>
  )
}

function Verbs({ api }: { api: Server }) {
  if (api.verbs.length === 0) return <Empty>No request has been measured yet.</Empty>
  return (
    <table class="verbs">
      <thead>
        <tr>
          <th scope="col">Verb</th>
          <th scope="col" class="num" title="Requests a second">
            Per s
          </th>
          <th scope="col" class="num" title="Half of the requests took at most this">
            Median
          </th>
          <th scope="col" class="num" title="99 % of the requests took at most this">
            p99
          </th>
          <th scope="col" class="num" title="Long-running requests under way">
            Open
          </th>
          <th scope="col" class="num" title="Errors of the server a second">
            Errors
          </th>
        </tr>
      </thead>
      <tbody>
        {api.verbs.map((v) => (
          <tr key={v.verb} data-verb={v.verb}>
            <td>{v.verb}</td>
            <td class="num">{rate(v.rate)}</td>
            <td class="num">{took(v.median)}</td>
            <td class="num">{took(v.p99)}</td>
            <td class="num">{v.open === null ? '' : digits(v.open)}</td>
            <td class={`num ${v.errors ? 'error' : 'dim'}`}>{v.errors ? rate(v.errors) : '0'}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

function Levels({ api }: { api: Server }) {
  if (api.levels.length === 0) return null
  return (
    <table class="levels">
      <thead>
        <tr>
          <th scope="col">Priority level</th>
          <th scope="col" class="num" title="Seats in use, and how many the level has now">
            Seats
          </th>
          <th scope="col" title="Seats in use; the mark is the most that were wanted in 10 s" aria-label="Use of seats" />
          <th scope="col" class="num" title="Seats that waiting requests want">
            Queued
          </th>
          <th scope="col" class="num" title="Requests refused a second, with code 429">
            Refused
          </th>
        </tr>
      </thead>
      <tbody>
        {api.levels.map((l) => (
          <tr key={l.name} data-level={l.name}>
            <td>
              {l.name} {seatLevel(l) !== 'ok' && <Mark level={seatLevel(l)} />}
            </td>
            <td class="num">
              {l.used === null ? unknown : digits(l.used)}
              <span class="dim">{l.seats ? ` of ${digits(l.seats)}` : ''}</span>
            </td>
            <td class="use">
              {!!l.seats && (
                <Meter
                  value={l.used}
                  max={l.seats}
                  ticks={[{ at: l.peak ?? undefined, name: 'peak' }]}
                  label={`${digits(l.used ?? 0)} of ${digits(l.seats)} seats in use, at most ${digits(l.peak ?? 0)} wanted`}
                />
              )}
            </td>
            <td class={`num ${l.queued ? 'warn' : 'dim'}`}>{l.queued === null ? unknown : digits(l.queued)}</td>
            <td class={`num ${l.refused ? 'error' : 'dim'}`}>{l.refused ? `${rate(l.refused)}/s` : '0'}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}
