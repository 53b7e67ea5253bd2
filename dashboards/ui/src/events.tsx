import { age, clock } from './format'
import { live, useNow, useTopics } from './live'
import { Empty, Mark, Section } from './parts'
import type { ClusterEvent } from './types'
import { podHref } from './route'

export function Warnings() {
  useTopics('events', 'problems')
  const { events } = live.sections
  return (
    <Section id="warnings" title="Warnings" topic="events" note={events?.length || undefined}>
      {events?.length === 0 && (
        <Empty>
          <Mark level="ok" /> No warnings were reported.
        </Empty>
      )}
      <EventList events={events?.slice(0, 12) ?? []} />
    </Section>
  )
}

export function EventList({ events }: { events: ClusterEvent[] }) {
  const now = useNow()
  return (
    <ul class="events">
      {events.map((e, i) => {
        const [kind, name = ''] = e.object.split('/')
        return (
          <li key={i}>
            <Mark level={e.type === 'Warning' ? 'warn' : 'done'} />
            <span>
              <b>{e.reason}</b>{' '}
              {kind === 'Pod' ? (
                <a href={podHref(e.ns, name)}>{e.object}</a>
              ) : (
                <span class="dim">{e.object}</span>
              )}
              <span class="event-text">{e.message}</span>
            </span>
            <span class="dim num" title={clock(e.last, now)}>
              {e.count > 1 && `${e.count}× `}
              {age(now - e.last)}
            </span>
          </li>
        )
      })}
    </ul>
  )
}
