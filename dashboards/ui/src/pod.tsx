import { useEffect, useState } from 'preact/hooks'
import { Drawer } from './drawer'
import { EventList } from './events'
import { age, bytes, clock, cores, plural } from './format'
import { live, useNow, useTopics } from './live'
import { Command, Empty, Labels, Mark, Meter, Spark, Status } from './parts'
import { traceHref } from './route'
import type { PodDetail } from './types'

export function PodDrawer({ ns, name }: { ns: string; name: string }) {
  useTopics('pods', 'usage')
  const now = useNow()
  const [detail, setDetail] = useState<PodDetail>()
  const [error, setError] = useState('')
  const key = `${ns}/${name}`
  const pod = live.sections.pods?.find((p) => p.ns === ns && p.name === name)
  const use = live.sections.usage?.pods[key]
  // What the row shows changes with the pod; then the rest may have as well.
  const state = pod && `${pod.uid} ${pod.status} ${pod.ready} ${pod.restarts} ${pod.message}`
  useEffect(() => {
    const stop = new AbortController()
    const load = async () => {
      try {
        const answer = await fetch(`/ui/api/pods/${encodeURIComponent(ns)}/${encodeURIComponent(name)}`, { signal: stop.signal })
        const body = (await answer.json()) as PodDetail & { error?: string }
        if (!answer.ok) throw new Error(body.error)
        setDetail(body)
        setError('')
      } catch (e) {
        if (!stop.signal.aborted) setError((e as Error).message)
      }
    }
    void load()
    const again = setInterval(load, 5000) // events come without a change of the pod
    return () => {
      stop.abort()
      clearInterval(again)
    }
  }, [key, state])
  const several = (detail?.containers.length ?? 0) > 1
  return (
    <Drawer kind="pod" over={`Pod in ${ns}`} title={name}>
      {pod && (
        <>
          <p class="facts">
            <Status level={pod.level} text={pod.status} />
            <span>
              {pod.ready} of {pod.total} ready
            </span>
            <span>{plural(pod.restarts, 'restart')}</span>
            <span>{age(now - pod.created)} old</span>
            {pod.owner && <span>{pod.owner}</span>}
            {pod.node && <span>on {pod.node}</span>}
            {pod.ip && <span class="num">{pod.ip}</span>}
          </p>
          {pod.message && <p class={`message ${pod.level}`}>{pod.message}</p>}
          <div class="pod-use">
            <figure>
              <figcaption>
                CPU <b class="num">{cores(use?.cpu)}</b>
                <span class="dim">
                  request {pod.cpuRequest ? cores(pod.cpuRequest) : 'none'} · limit {pod.cpuLimit ? cores(pod.cpuLimit) : 'none'}
                </span>
              </figcaption>
              <Spark kind="cpu" values={live.values(`pod/${key}/cpu`)} height={56} width={300} label="CPU over the last five minutes" />
              <Meter
                value={use?.cpu}
                ticks={[
                  { at: pod.cpuRequest, name: 'request' },
                  { at: pod.cpuLimit, name: 'limit' },
                ]}
                label="CPU against request and limit"
              />
            </figure>
            <figure>
              <figcaption>
                Memory <b class="num">{bytes(use?.memory)}</b>
                <span class="dim">
                  request {pod.memoryRequest ? bytes(pod.memoryRequest) : 'none'} · limit {pod.memoryLimit ? bytes(pod.memoryLimit) : 'none'}
                </span>
              </figcaption>
              <Spark kind="memory" values={live.values(`pod/${key}/memory`)} height={56} width={300} label="Memory over the last five minutes" />
              <Meter
                value={use?.memory}
                ticks={[
                  { at: pod.memoryRequest, name: 'request' },
                  { at: pod.memoryLimit, name: 'limit' },
                ]}
                label="Memory against request and limit"
              />
            </figure>
          </div>
        </>
      )}
      {!pod && live.sections.pods && <Empty>This pod is gone.</Empty>}
      {error && pod && (
        <p class="problem" role="alert">
          <Mark level="error" /> {error}
        </p>
      )}
      {detail && (
        <>
          <h3>Containers</h3>
          <ul class="containers">
            {detail.containers.map((c) => (
              <li key={c.name} data-container={c.name}>
                <div>
                  <b>{c.name}</b>
                  {c.kind !== 'container' && <span class="tag">{c.kind}</span>}
                  <Status level={c.level} text={c.state} />
                  {!!c.since && <span class="dim">for {age(now - c.since)}</span>}
                  {c.restarts > 0 && <span class="warn">{plural(c.restarts, 'restart')}</span>}
                </div>
                <code>{c.image}</code>
                {c.message && <p class={`message ${c.level}`}>{c.message}</p>}
                <p class="dim">
                  {[
                    c.ports.length ? `ports ${c.ports.join(', ')}` : '',
                    c.cpuRequest || c.memoryRequest ? `asks for ${[c.cpuRequest && cores(c.cpuRequest), c.memoryRequest && bytes(c.memoryRequest)].filter(Boolean).join(', ')}` : '',
                    c.lastExit ? `last ended: ${c.lastExit}` : '',
                  ]
                    .filter(Boolean)
                    .join(' · ')}
                </p>
              </li>
            ))}
          </ul>
          <h3>Logs and shell</h3>
          {detail.containers
            .filter((c) => c.kind !== 'init')
            .map((c) => (
              <Command key={c.name} text={`kubectl logs -f -n ${ns} ${name}${several ? ` -c ${c.name}` : ''}`} />
            ))}
          <Command text={`kubectl exec -it -n ${ns} ${name} -- sh`} />
          <Command text={`kubectl describe pod -n ${ns} ${name}`} />
          <h3>Conditions</h3>
          <dl class="conditions">
            {detail.conditions.map((c) => (
              <div key={c.type}>
                <dt>
                  <Status level={c.status === 'True' ? 'ok' : 'warn'} text={c.type} />
                </dt>
                <dd>
                  {c.message || c.reason || (c.status === 'True' ? 'True' : c.status)}
                  {!!c.since && <span class="dim"> · since {clock(c.since, now)}</span>}
                </dd>
              </div>
            ))}
          </dl>
          {detail.conditions.length === 0 && <Empty>None are reported yet.</Empty>}
          <h3>Events</h3>
          {detail.events.length === 0 ? <Empty>None are kept.</Empty> : <EventList events={detail.events} />}
          {detail.trace && (
            <>
              <h3>Trace</h3>
              <p>
                <a href={traceHref(detail.trace)}>The request that last changed this pod, and all it set in motion</a>
              </p>
            </>
          )}
          <Labels labels={detail.labels} />
        </>
      )}
    </Drawer>
  )
}
