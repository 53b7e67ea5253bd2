// Package metrics keeps the cluster's time series and answers questions about
// them.
//
// It owns the time-series database (Prometheus' own, below <DataDir>/metrics),
// the PromQL engine, Prometheus' HTTP API, and everything that fills them:
//
//   - the registries of all telemetry components of the process and further
//     Sources, gathered in process without text in between, every 15 s;
//   - CPU and memory of every container, every second, from exporters/cgroup;
//   - kube-state series, produced from watch events as they come;
//   - real scraping of annotated pods and services, of static targets, and of
//     scrape configurations in Prometheus' format; remote write and OTLP in.
//
// It also serves metrics.k8s.io from the same one-second samples.
//
// It promises the job, instance and other labels that the common dashboards
// and rules expect, staleness markers as soon as a series disappears, and `up`
// and scrape_* for its own sources as for scraped ones. A metric's own label
// wins over a target's (honor_labels). It refuses to be the long-term store:
// retention is a day by default, and remote write is for more.
package metrics
