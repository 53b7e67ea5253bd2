import type { ComponentChildren } from 'preact'
import { bytes, cores, count, percent, plural, unknown } from './format'
import { live, useTopics } from './live'
import { Mark, Meter, Spark } from './parts'
import type { Level, Pod, Points } from './types'

interface TileProps {
  id: string
  label: string
  value: ComponentChildren
  unit?: string
  sub: ComponentChildren
  level?: Level
  values: Points
  floor?: number
  kind?: string
  meter?: ComponentChildren
  spoken: string
}

function Tile(p: TileProps) {
  return (
    <div class={`tile ${p.kind ?? ''}`} id={`tile-${p.id}`} role="group" aria-label={p.label}>
      <div class="tile-head">
        <span class="tile-label">{p.label}</span>
        {p.level && p.level !== 'ok' && <Mark level={p.level} />}
      </div>
      <div class="tile-value">
        <b>{p.value}</b>
        {p.unit && <span> {p.unit}</span>}
      </div>
      <div class="tile-sub">{p.sub}</div>
      {p.meter}
      <Spark values={p.values} label={p.spoken} floor={p.floor ?? 0} height={30} width={200} {...(p.kind ? { kind: p.kind } : {})} />
    </div>
  )
}

export function Overview() {
  useTopics('nodes', 'pods', 'alerts', 'usage', 'problems')
  const { nodes, pods, alerts, usage, problems } = live.sections
  const ready = nodes?.filter((n) => n.status.startsWith('Ready')).length
  const total = nodes?.length
  const runs = (p: Pod) => p.level === 'ok' || (p.level === 'warn' && p.status === 'Running')
  const running = pods?.filter(runs).length
  const pending = pods?.filter((p) => !runs(p) && (p.level === 'progress' || p.level === 'warn')).length ?? 0
  const failed = pods?.filter((p) => p.level === 'error').length ?? 0
  const sum = (list: (number | null | undefined)[] | undefined) => {
    const known = list?.filter((v): v is number => v !== null && v !== undefined)
    return known?.length ? known.reduce((a, b) => a + b, 0) : null
  }
  const cpu = sum(nodes?.map((n) => usage?.nodes[n.name]?.cpu))
  const memory = sum(nodes?.map((n) => usage?.nodes[n.name]?.memory))
  const cpuAll = sum(nodes?.map((n) => n.cpu))
  const memoryAll = sum(nodes?.map((n) => n.memory))
  const cpuAsked = sum(nodes?.map((n) => n.cpuAsked))
  const memoryAsked = sum(nodes?.map((n) => n.memoryAsked))
  const names = nodes?.map((n) => n.name) ?? []
  const firing = alerts?.filter((a) => a.state === 'firing' && !a.silenced && !a.inhibited)
  const waiting = alerts?.filter((a) => a.state === 'pending').length ?? 0
  const muted = alerts?.filter((a) => a.silenced || a.inhibited).length ?? 0
  const worst: Level = firing?.some((a) => a.severity === 'critical') ? 'error' : firing?.length ? 'warn' : 'ok'
  return (
    <div class="overview" role="region" aria-label="Overview">
      <Tile
        id="nodes"
        label="Nodes"
        value={ready ?? unknown}
        unit={total === undefined ? '' : `of ${total} ready`}
        sub={nodes?.length ? nodes.map((n) => n.version).filter((v, i, all) => v && all.indexOf(v) === i).join(', ') || 'no version reported' : 'none has joined'}
        level={total !== undefined && ready !== total ? 'error' : 'ok'}
        values={live.values('overview/nodes')}
        floor={Math.max(1, total ?? 1)}
        spoken="Nodes ready over the last five minutes"
      />
      <Tile
        id="pods"
        label="Pods"
        value={running ?? unknown}
        unit="running"
        sub={
          <>
            <span class={pending ? 'progress' : ''}>{pending} pending</span> · <span class={failed ? 'error' : ''}>{failed} failing</span>
          </>
        }
        level={failed ? 'error' : pending ? 'progress' : 'ok'}
        values={live.values('overview/pods')}
        spoken="Pods running over the last five minutes"
      />
      <Tile
        id="cpu"
        label="CPU"
        kind="cpu"
        value={percent(cpu, cpuAll)}
        unit={cpuAll ? `of ${cores(cpuAll)} cores` : ''}
        sub={`${cores(cpu)} used · ${cores(cpuAsked)} requested`}
        values={live.sum(names.map((n) => `node/${n}/cpu`))}
        meter={
          cpuAll ? (
            <Meter value={cpu} max={cpuAll} ticks={[{ at: cpuAsked ?? undefined, name: 'request' }]} label={`CPU: ${cores(cpu)} used, ${cores(cpuAsked)} requested, ${cores(cpuAll)} allocatable`} />
          ) : undefined
        }
        spoken="CPU used over the last five minutes"
      />
      <Tile
        id="memory"
        label="Memory"
        kind="memory"
        value={percent(memory, memoryAll)}
        unit={memoryAll ? `of ${bytes(memoryAll)}` : ''}
        sub={`${bytes(memory)} · ${bytes(memoryAsked)} requested`}
        values={live.sum(names.map((n) => `node/${n}/memory`))}
        meter={
          memoryAll ? (
            <Meter value={memory} max={memoryAll} ticks={[{ at: memoryAsked ?? undefined, name: 'request' }]} label={`Memory: ${bytes(memory)} used, ${bytes(memoryAsked)} requested, ${bytes(memoryAll)} allocatable`} />
          ) : undefined
        }
        spoken="Memory used over the last five minutes"
      />
      <Tile
        id="alerts"
        label="Alerts"
        kind={worst === 'ok' ? '' : worst}
        value={firing?.length ?? unknown}
        unit="firing"
        sub={`${waiting} pending · ${muted} silenced`}
        level={worst}
        values={live.values('overview/alerts')}
        floor={1}
        spoken="Alerts firing over the last five minutes"
      />
      <Tile
        id="ingest"
        label="Measuring"
        value={count(usage?.ingest)}
        unit="samples/s"
        level={problems?.usage ? 'error' : 'ok'}
        sub={problems?.usage ? <span title={problems.usage}>{problems.usage}</span> : `${plural(Object.keys(usage?.pods ?? {}).length, 'pod')} measured each second`}
        values={live.values('overview/ingest')}
        spoken="Samples ingested per second over the last five minutes"
      />
    </div>
  )
}
