import { age, amount, clock, plural } from './format'
import { live, useNow, useTopics } from './live'
import { Empty, Mark, Section, Spark } from './parts'
import type { HPA, Metric } from './types'

export function Scaling() {
  useTopics('hpas', 'usage', 'problems')
  const { hpas } = live.sections
  return (
    <Section id="scaling" title="Autoscaling" topic="hpas" note={hpas?.length}>
      {hpas?.length === 0 && <Empty>There are no HorizontalPodAutoscalers.</Empty>}
      {hpas?.map((h) => (
        <Card key={`${h.ns}/${h.name}`} hpa={h} />
      ))}
    </Section>
  )
}

function Card({ hpa: h }: { hpa: HPA }) {
  const now = useNow()
  const moving = h.desired !== h.current
  return (
    <article class="hpa" data-hpa={`${h.ns}/${h.name}`} aria-label={`Autoscaler ${h.ns}/${h.name}`}>
      <div class="hpa-head">
        <span>
          <span class="ns">{h.ns}</span>
          <span class="slash">/</span>
          <b>{h.name}</b>
        </span>
        <span class="dim">{h.target}</span>
      </div>
      <div class="hpa-size">
        <span class="hpa-now">
          <b>{h.current}</b>
          {moving && (
            <span class="progress">
              {' → '}
              {h.desired}
            </span>
          )}
          <span class="dim"> {h.current === 1 && !moving ? 'replica' : 'replicas'}</span>
        </span>
        <Dots hpa={h} />
        <Spark kind="replicas" values={live.values(`hpa/${h.ns}/${h.name}`)} floor={h.max} width={140} height={30} label={`Replicas of ${h.target} over the last five minutes`} />
      </div>
      {h.metrics.map((m) => (
        <Against key={m.name} metric={m} />
      ))}
      {h.decision && (
        <p class="decision" data-decision>
          <Mark level={h.decision.level} />
          <span>
            {h.decision.text}
            <span class="dim"> · {clock(h.decision.at, now)}</span>
          </span>
        </p>
      )}
      {h.lastScale && h.lastScale.text !== h.decision?.text && (
        <p class="decision past" data-last-scale>
          <Mark level="done" />
          <span>
            {h.lastScale.text}
            <span class="dim"> · {age(now - h.lastScale.at)} ago</span>
          </span>
        </p>
      )}
      {(h.log.length > 1 || h.conditions.length > 0) && (
        <details>
          <summary data-nav>Decisions and conditions</summary>
          <ol class="log">
            {h.log.map((d, i) => (
              <li key={i}>
                <time>{clock(d.at, now)}</time>
                <span>
                  {d.text}
                  {d.times && d.times > 1 ? <span class="dim"> · {plural(d.times, 'time')}</span> : null}
                </span>
              </li>
            ))}
          </ol>
          <dl class="conditions">
            {h.conditions.map((c) => (
              <div key={c.type}>
                <dt>
                  {c.type} <span class="dim">{c.status}</span>
                </dt>
                <dd>{c.message || c.reason}</dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </article>
  )
}

/** The range of sizes, one mark each: present ones filled, wanted ones ringed. */
function Dots({ hpa: h }: { hpa: HPA }) {
  const label = `${h.current} replicas, ${h.desired} wanted, between ${h.min} and ${h.max}`
  if (h.max > 20) {
    return (
      <span class="range num" aria-label={label}>
        {h.min} – {h.max}
      </span>
    )
  }
  return (
    <span class="range" role="img" aria-label={label} title={label}>
      {Array.from({ length: h.max }, (_, i) => (
        <i key={i} class={`${i < h.current ? 'on' : ''} ${i < h.desired ? 'want' : ''} ${i === h.min - 1 ? 'min' : ''}`} />
      ))}
      <span class="dim num">
        {h.min}–{h.max}
      </span>
    </span>
  )
}

/** A metric on a scale with its target as the mark. */
function Against({ metric: m }: { metric: Metric }) {
  const end = Math.max(m.target * 2, (m.current ?? 0) * 1.05)
  const over = m.current !== null && m.current > m.target * 1.1
  const label = `${m.name}: ${amount(m.current, m.unit)} against a target of ${amount(m.target, m.unit)}${m.average ? ' per pod' : ''}`
  return (
    <div class={`against ${over ? 'over' : ''}`} role="group" aria-label={label}>
      <span class="against-name">
        {m.name}
        {m.average && <span class="dim"> per pod</span>}
      </span>
      <span class="num">
        <b>{amount(m.current, m.unit)}</b>
        <span class="dim"> / {amount(m.target, m.unit)}</span>
      </span>
      <span class="bar" aria-hidden="true">
        <span class="fill" style={{ width: `${end ? Math.min(100, (100 * (m.current ?? 0)) / end) : 0}%` }} />
        <span class="target" style={{ left: `${end ? (100 * m.target) / end : 0}%` }} />
      </span>
    </div>
  )
}
