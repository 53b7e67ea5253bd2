package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/file" // file_sd_configs register where they are read
	_ "github.com/prometheus/prometheus/discovery/http" // http_sd_configs as well
	"github.com/prometheus/prometheus/scrape"
)

// The jobs of annotated objects.
const (
	podJob     = "kubernetes-pods"
	serviceJob = "kubernetes-service-endpoints"
)

// scrapeConfig writes the user's configuration in Prometheus' own format and
// lets Prometheus read it, so that its defaults and checks apply.
func scrapeConfig(cfg Config, log *slog.Logger) (*config.Config, error) {
	var b strings.Builder
	interval := model.Duration(cfg.Interval)
	fmt.Fprintf(&b, "global:\n  scrape_interval: %s\n  scrape_timeout: %s\n", interval, min(interval, model.Duration(10*time.Second)))
	if len(cfg.ExternalLabels) > 0 {
		b.WriteString("  external_labels:\n")
		writeMap(&b, "    ", cfg.ExternalLabels)
	}
	if len(cfg.ScrapeConfigFiles) > 0 {
		b.WriteString("scrape_config_files:\n")
		for _, f := range cfg.ScrapeConfigFiles {
			fmt.Fprintf(&b, "- %q\n", f)
		}
	}
	b.WriteString("scrape_configs:\n")
	for _, job := range []string{podJob, serviceJob} {
		fmt.Fprintf(&b, "- job_name: %s\n  honor_labels: true\n", job)
	}
	for _, t := range cfg.Targets {
		fmt.Fprintf(&b, "- job_name: %q\n", t.Job)
		if t.Scheme != "" {
			fmt.Fprintf(&b, "  scheme: %q\n", t.Scheme)
		}
		if t.Path != "" {
			fmt.Fprintf(&b, "  metrics_path: %q\n", t.Path)
		}
		if t.Interval != 0 {
			fmt.Fprintf(&b, "  scrape_interval: %s\n  scrape_timeout: %s\n", model.Duration(t.Interval), model.Duration(min(t.Interval, 10*time.Second)))
		}
		b.WriteString("  static_configs:\n  - targets:\n")
		for _, a := range t.Addresses {
			fmt.Fprintf(&b, "    - %q\n", a)
		}
		if len(t.Labels) > 0 {
			b.WriteString("    labels:\n")
			writeMap(&b, "      ", t.Labels)
		}
	}
	c, err := config.Load(b.String(), log)
	if err != nil {
		return nil, fmt.Errorf("cannot use scrape targets %v: %w", cfg.Targets, err)
	}
	if _, err := c.GetScrapeConfigs(); err != nil {
		return nil, fmt.Errorf("cannot use scrape configuration files %q: %w", cfg.ScrapeConfigFiles, err)
	}
	return c, nil
}

func writeMap(b *strings.Builder, indent string, m map[string]string) {
	for k, v := range m {
		fmt.Fprintf(b, "%s%s: %q\n", indent, k, v)
	}
}

func (m *Metrics) buildScraper(log *slog.Logger, reg *prometheus.Registry) error {
	sd, err := discovery.CreateAndRegisterSDMetrics(reg)
	if err != nil {
		return fmt.Errorf("cannot register discovery metrics: %w", err)
	}
	o := &scrape.Options{DiscoveryReloadInterval: model.Duration(time.Second), DiscoveryReloadOnStartup: true}
	if m.scraper, err = scrape.NewManager(o, log, nil, m.db, nil, reg); err != nil {
		return fmt.Errorf("cannot make the scraper: %w", err)
	}
	if err := m.scraper.ApplyConfig(m.scrapeCfg); err != nil {
		return fmt.Errorf("cannot configure the scraper: %w", err)
	}
	// The manager wants its context early; Run's end and Close cancel it.
	ctx, cancel := context.WithCancel(context.Background())
	m.stopDiscovery = cancel
	m.discovery = discovery.NewManager(ctx, log, reg, sd, discovery.Name("scrape"), discovery.Updatert(time.Second))
	return nil
}

// runScraper discovers and scrapes until ctx ends.
func (m *Metrics) runScraper(ctx context.Context, wg *sync.WaitGroup) {
	jobs := map[string]discovery.Configs{}
	list, err := m.scrapeCfg.GetScrapeConfigs()
	if err != nil {
		m.tel.Log.Error("scraping is off", "err", err) // cannot happen: New called it
		return
	}
	for _, c := range list {
		jobs[c.JobName] = c.ServiceDiscoveryConfigs
	}
	if m.client != nil && !m.cfg.NoDiscovery {
		annotated := newAnnotated(m.client, m.tel)
		jobs[podJob] = discovery.Configs{annotated.pods()}
		jobs[serviceJob] = discovery.Configs{annotated.services()}
		wg.Go(func() { annotated.run(ctx) })
	}
	wg.Go(func() {
		if err := m.discovery.Run(); err != nil && ctx.Err() == nil {
			m.tel.Log.Error("discovery ended", "err", err)
		}
	})
	if err := m.discovery.ApplyConfig(jobs); err != nil {
		m.tel.Log.Error("discovery refused its configuration", "err", err)
	}
	wg.Go(func() {
		if err := m.scraper.Run(m.discovery.SyncCh()); err != nil && ctx.Err() == nil {
			m.tel.Log.Error("scraper ended", "err", err)
		}
	})
	wg.Go(func() {
		<-ctx.Done()
		m.stopDiscovery()
		m.scraper.Stop()
	})
}
