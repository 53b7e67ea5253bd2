package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/kind"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

// EtcdConfig is about the state of the cluster.
type EtcdConfig struct {
	// CAFile, CertFile and KeyFile are for TLS to etcdEndpoints.
	CAFile   string `json:"caFile,omitempty"`
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
	// QuotaBytes bounds the embedded etcd's data; default 7 GiB.
	QuotaBytes int64 `json:"quotaBytes,omitempty"`
	// CompactEvery is how often history is dropped; default 5m.
	CompactEvery metav1.Duration `json:"compactEvery,omitempty"`
}

// EncryptionConfig is about what is encrypted at rest.
type EncryptionConfig struct {
	// File is an EncryptionConfiguration as the Kubernetes API server reads
	// it; default <dataDir>/pki/encryption.yaml, made at the first start.
	File string `json:"file,omitempty"`
	// Resources to encrypt; default secrets. Those that File does not
	// mention are added to it.
	Resources []string `json:"resources,omitempty"`
}

// storeConfig is that of the store wherever it is opened.
func (c *Config) storeConfig() store.Config {
	out := store.Config{
		Endpoints: c.EtcdEndpoints, CAFile: c.Etcd.CAFile, CertFile: c.Etcd.CertFile, KeyFile: c.Etcd.KeyFile,
		QuotaBytes: c.Etcd.QuotaBytes, CompactEvery: c.Etcd.CompactEvery.Duration,
		Encryption:    store.Encryption{File: c.Encryption.File, Resources: c.Encryption.Resources},
		ControlSocket: filepath.Join(c.RunDir, "etcd", "control.sock"),
	}
	if out.Encryption.File == "" {
		out.Encryption.File = c.path("pki", "encryption.yaml")
	}
	if len(c.EtcdEndpoints) == 0 {
		out.Dir = c.path("etcd")
		out.ListenClient = "unix://" + filepath.Join(c.RunDir, "etcd", "client.sock")
	}
	return out
}

const etcdUsage = `usage: binnacle etcd COMMAND [--config FILE] [--data-dir DIR] [-w table|json]

  snapshot save FILE       write all state to FILE
  snapshot status FILE     check FILE and tell what is in it
  snapshot restore FILE    put FILE's state in the place of a stopped server's
      --replace            also where there is state, which is kept beside
      --database           FILE is a copy of a member's database, without checksum
  member list              the members of the cluster
  status                   version, size, leader and revision of each member
  health                   whether each member answers, and alarms
  defrag                   give free space back to the disk; nothing is answered meanwhile
  compact [REVISION]       drop history before REVISION, default all
  rotate-key               encrypt with a new key, and drop the old ones

All but restore work on a running server and on a stopped one's data.
etcdctl can be used on a running one: --endpoints unix://<runDir>/etcd/client.sock`

// etcdCommand is one invocation of binnacle etcd.
type etcdCommand struct {
	cfg    *Config
	json   bool
	out    io.Writer
	tel    *telemetry.Component
	update store.Restore // flags of restore
}

// etcd does what its arguments say to the state of the cluster.
func etcd(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("binnacle etcd", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprintln(flags.Output(), etcdUsage) }
	file := flags.String("config", "", "")
	dataDir := flags.String("data-dir", "", "")
	format := flags.String("w", "table", "")
	c := &etcdCommand{out: out, tel: telemetry.NewHub(telemetry.Config{
		Log: slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}),
	}).Component("etcd", "etcd")}
	flags.BoolVar(&c.update.Replace, "replace", false, "")
	flags.BoolVar(&c.update.Database, "database", false, "")
	// Flags may stand before, between and after words.
	var words []string
	for rest := args; ; {
		if err := flags.Parse(rest); errors.Is(err, flag.ErrHelp) {
			return nil
		} else if err != nil {
			return err
		}
		if flags.NArg() == 0 {
			break
		}
		words, rest = append(words, flags.Arg(0)), flags.Args()[1:]
	}
	if *format != "table" && *format != "json" {
		return fmt.Errorf("cannot write as %q: want table or json", *format)
	}
	c.json = *format == "json"
	var err error
	if c.cfg, err = loadConfig(*file); err != nil {
		return err
	}
	if *dataDir != "" {
		c.cfg.DataDir = *dataDir
	}
	if err := c.cfg.complete(); err != nil {
		return err
	}
	return c.run(ctx, words)
}

func (c *etcdCommand) run(ctx context.Context, words []string) error {
	arg := func(n int) string {
		if n < len(words) {
			return words[n]
		}
		return ""
	}
	switch command, n := strings.Join(words[:min(2, len(words))], " "), len(words); {
	case command == "snapshot save" && n == 3:
		return c.save(ctx, arg(2))
	case command == "snapshot status" && n == 3:
		return c.snapshotStatus(arg(2))
	case command == "snapshot restore" && n == 3:
		return c.restore(ctx, arg(2))
	case command == "member list" && n == 2:
		return c.with(ctx, c.members)
	case command == "status" && n == 1:
		return c.with(ctx, c.status)
	case command == "health" && n == 1:
		return c.with(ctx, c.health)
	case command == "defrag" && n == 1:
		return c.with(ctx, c.defragment)
	case arg(0) == "compact" && n <= 2:
		revision, err := int64(0), error(nil)
		if n == 2 {
			if revision, err = strconv.ParseInt(arg(1), 10, 64); err != nil || revision <= 0 {
				return fmt.Errorf("cannot compact to %q: want a revision", arg(1))
			}
		}
		return c.with(ctx, func(ctx context.Context, a *store.Admin) error { return c.compact(ctx, a, revision) })
	case command == "rotate-key" && n == 1:
		return c.rotate(ctx)
	}
	return fmt.Errorf("cannot understand %q\n%s", strings.Join(words, " "), etcdUsage)
}

// with opens a door to etcd for f.
func (c *etcdCommand) with(ctx context.Context, f func(context.Context, *store.Admin) error) error {
	a, err := store.Administer(ctx, c.cfg.storeConfig(), c.tel)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, a), a.Close())
}

func (c *etcdCommand) save(ctx context.Context, file string) error {
	if err := c.with(ctx, func(ctx context.Context, a *store.Admin) error { return a.Save(ctx, file) }); err != nil {
		return err
	}
	if c.json {
		return c.snapshotStatus(file)
	}
	fmt.Fprintf(c.out, "Snapshot saved at %s\n", file)
	if keys := c.cfg.storeConfig().Encryption.File; exists(keys) {
		fmt.Fprintf(c.out, "What is encrypted in it needs %s: keep a copy, elsewhere\n", keys)
	}
	return nil
}

func (c *etcdCommand) snapshotStatus(file string) error {
	st, err := store.StatSnapshot(file, c.tel)
	if err != nil {
		return err
	}
	return c.write(st, []string{"HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"},
		[]string{fmt.Sprintf("%x", st.Hash), fmt.Sprint(st.Revision), fmt.Sprint(st.TotalKey), size(st.TotalSize), st.Version})
}

func (c *etcdCommand) restore(ctx context.Context, file string) error {
	from := c.update
	from.Snapshot = file
	done, err := store.RestoreSnapshot(ctx, c.cfg.storeConfig(), from, c.tel)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(c.out).Encode(done)
	}
	fmt.Fprintf(c.out, "Restored %d keys to %s; revisions go on from %d\n", done.Keys, c.cfg.path("etcd"), done.Revision)
	if done.Kept != "" {
		fmt.Fprintf(c.out, "What was there is in %s; remove it when you do not need it\n", done.Kept)
	}
	if len(done.MissingKeys) > 0 {
		fmt.Fprintf(c.out, "Values encrypted with %s cannot be read: %s does not have these keys\n",
			strings.Join(done.MissingKeys, ", "), c.cfg.storeConfig().Encryption.File)
	}
	return nil
}

func (c *etcdCommand) members(ctx context.Context, a *store.Admin) error {
	list, err := a.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("cannot list etcd's members: %w", err)
	}
	var rows [][]string
	for _, m := range list.Members {
		status := "started"
		if m.Name == "" {
			status = "unstarted"
		}
		rows = append(rows, []string{
			fmt.Sprintf("%x", m.ID), status, m.Name, strings.Join(m.PeerURLs, ","), strings.Join(m.ClientURLs, ","), strconv.FormatBool(m.IsLearner),
		})
	}
	return c.write(list, []string{"ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"}, rows...)
}

func (c *etcdCommand) status(ctx context.Context, a *store.Admin) error {
	list, err := a.Status(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, s := range list {
		st := s.Status
		rows = append(rows, []string{
			s.Endpoint, fmt.Sprintf("%x", st.Header.MemberId), st.Version, size(st.DbSize), size(st.DbSizeInUse), size(st.DbSizeQuota),
			strconv.FormatBool(st.Leader == st.Header.MemberId), fmt.Sprint(st.Header.Revision), fmt.Sprint(st.RaftIndex), strings.Join(st.Errors, ", "),
		})
	}
	return c.write(list, []string{"ENDPOINT", "ID", "VERSION", "DB SIZE", "IN USE", "QUOTA", "IS LEADER", "REVISION", "RAFT INDEX", "ERRORS"}, rows...)
}

var errUnhealthy = errors.New("etcd is not healthy")

func (c *etcdCommand) health(ctx context.Context, a *store.Admin) error {
	list := a.Health(ctx)
	var rows [][]string
	var err error
	for _, h := range list {
		rows = append(rows, []string{h.Endpoint, strconv.FormatBool(h.Healthy), h.Took, h.Error})
		if !h.Healthy {
			err = errUnhealthy
		}
	}
	return errors.Join(c.write(list, []string{"ENDPOINT", "HEALTH", "TOOK", "ERROR"}, rows...), err)
}

func (c *etcdCommand) defragment(ctx context.Context, a *store.Admin) error {
	before, err := a.Status(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := a.Defragment(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := a.Status(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for i, s := range after {
		rows = append(rows, []string{s.Endpoint, size(before[i].Status.DbSize), size(s.Status.DbSize), took.Round(time.Millisecond).String()})
	}
	return c.write(after, []string{"ENDPOINT", "BEFORE", "AFTER", "TOOK"}, rows...)
}

func (c *etcdCommand) compact(ctx context.Context, a *store.Admin, revision int64) error {
	revision, err := a.CompactTo(ctx, revision)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(c.out).Encode(map[string]int64{"revision": revision})
	}
	_, err = fmt.Fprintf(c.out, "compacted revision %d\n", revision)
	return err
}

// rotate asks the running server, or does itself what it would do.
func (c *etcdCommand) rotate(ctx context.Context) error {
	cfg := c.cfg.storeConfig()
	done, err := store.AskToRotateKeys(ctx, cfg.ControlSocket)
	if errors.Is(err, store.ErrNobodyRuns) {
		done, err = c.rotateStopped(ctx, cfg)
	}
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(c.out).Encode(done)
	}
	_, err = fmt.Fprintf(c.out, "Encrypted %d values with %s; other keys are dropped from %s\n", done.Rewritten, strings.Join(done.Keys, ", "), cfg.Encryption.File)
	return err
}

func (c *etcdCommand) rotateStopped(ctx context.Context, cfg store.Config) (_ *store.Rotation, err error) {
	if !exists(cfg.Encryption.File) {
		return nil, store.ErrNothingEncrypted
	}
	s, err := store.Open(ctx, cfg, kind.Builtin(), c.tel)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.RotateKeys(ctx)
}

// write prints value as JSON, or rows as etcdctl does.
func (c *etcdCommand) write(value any, head []string, rows ...[]string) error {
	if c.json {
		return json.NewEncoder(c.out).Encode(value)
	}
	widths := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	var b strings.Builder
	line := func() {
		for _, w := range widths {
			b.WriteString("+" + strings.Repeat("-", w+2))
		}
		b.WriteString("+\n")
	}
	line()
	for i, h := range head {
		left := (widths[i] - len(h)) / 2
		fmt.Fprintf(&b, "| %s%-*s ", strings.Repeat(" ", left), widths[i]-left, h)
	}
	b.WriteString("|\n")
	line()
	for _, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(&b, "| %*s ", widths[i], cell)
		}
		b.WriteString("|\n")
	}
	line()
	_, err := io.WriteString(c.out, b.String())
	return err
}

// size is in decimal units, as etcdctl's.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for ; f >= 1000 && i < len(units)-1; i++ {
		f /= 1000
	}
	if i == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.2g %s", f, units[i])
}
