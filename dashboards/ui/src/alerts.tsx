import { age, clock } from './format'
import { live, useNow, useTopics } from './live'
import { Empty, Labels, Mark, Section } from './parts'
import type { Alert, Level } from './types'

function levelOf(a: Alert): Level {
  if (a.silenced || a.inhibited) return 'done'
  if (a.state !== 'firing') return 'progress'
  return a.severity === 'critical' ? 'error' : 'warn'
}

function stateOf(a: Alert): string {
  if (a.silenced) return `${a.state}, silenced`
  if (a.inhibited) return `${a.state}, inhibited`
  return a.state
}

export function Alerts() {
  useTopics('alerts', 'problems')
  const now = useNow()
  const { alerts } = live.sections
  const firing = alerts?.filter((a) => a.state === 'firing' && !a.silenced && !a.inhibited).length
  return (
    <Section id="alerts" title="Alerts" topic="alerts" note={alerts?.length ? `${firing} firing` : undefined}>
      {alerts?.length === 0 && (
        <Empty>
          <Mark level="ok" /> Nothing is firing and nothing is pending.
        </Empty>
      )}
      <ul class="alerts">
        {alerts?.map((a) => (
          <li key={a.fingerprint} class={`alert ${levelOf(a)} ${a.silenced || a.inhibited ? 'muted' : ''}`} data-alert={a.name}>
            <details>
              <summary data-nav>
                <Mark level={levelOf(a)} />
                <span class="alert-name">
                  <b>{a.name}</b>
                  <span class="alert-what">{a.summary}</span>
                </span>
                <span class="alert-state">
                  <span class="tag">{stateOf(a)}</span>
                  <span class="dim num" title={clock(a.since, now)}>
                    {age(now - a.since)}
                  </span>
                </span>
              </summary>
              {a.description && <p>{a.description}</p>}
              <p class="dim">
                {a.severity && `${a.severity} · `}since {clock(a.since, now)}
              </p>
            </details>
            <Labels labels={a.labels} />
          </li>
        ))}
      </ul>
    </Section>
  )
}
