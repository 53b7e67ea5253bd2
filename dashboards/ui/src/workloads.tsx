import { age } from './format'
import { live, useNow, useTopics } from './live'
import { Empty, Section, Status } from './parts'

export function Workloads() {
  useTopics('workloads', 'problems')
  const now = useNow()
  const { workloads } = live.sections
  return (
    <Section id="workloads" title="Deployments" topic="workloads" note={workloads?.length}>
      {workloads?.length === 0 && <Empty>There are no deployments.</Empty>}
      {!!workloads?.length && (
        <table class="workloads">
          <thead>
            <tr>
              <th scope="col">Deployment</th>
              <th scope="col">Status</th>
              <th scope="col" class="num">
                Ready
              </th>
              <th scope="col">Images</th>
              <th scope="col" class="num">
                Age
              </th>
            </tr>
          </thead>
          <tbody>
            {workloads.map((w) => (
              <tr key={`${w.ns}/${w.name}`} data-workload={`${w.ns}/${w.name}`}>
                <td class="name">
                  <span class="ns">{w.ns}</span>
                  <span class="slash">/</span>
                  <b>{w.name}</b>
                </td>
                <td class="state">
                  <Status level={w.level} text={w.status} />
                  {w.message && (
                    <span class="why" title={w.message}>
                      {w.message}
                    </span>
                  )}
                </td>
                <td class="num">
                  {w.ready}/{w.desired}
                </td>
                <td class="images dim">{w.images.join(', ')}</td>
                <td class="num">{age(now - w.created)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  )
}
