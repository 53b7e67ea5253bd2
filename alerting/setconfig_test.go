package alerting

import (
	"strings"
	"testing"
)

func TestSetConfig(t *testing.T) {
	named := func(name string) []byte {
		return []byte("route: {receiver: " + name + "}\nreceivers: [{name: " + name + "}]\n")
	}
	w := newWorld(t)
	cfg := Config{DataDir: t.TempDir(), NoDefaultRules: true}
	a := run(t, cfg, w, func(a *Alerting) {
		if err := a.SetConfig(named("before")); err != nil {
			t.Fatal(err)
		}
	})
	is := func(want string) {
		t.Helper()
		e, err := a.Explain(t.Context(), nil)
		if err != nil || len(e.Routes) != 1 || e.Routes[0].Receiver != want {
			t.Errorf("%+v, %v: want receiver %q", e, err, want)
		}
	}
	is("before") // set before Run
	if err := a.SetConfig(named("running")); err != nil {
		t.Fatal(err)
	}
	is("running")
	if err := a.SetConfig([]byte("route: {receiver: nobody}\n")); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("%v: want an error that names the receiver", err)
	}
	is("running")
	if ok := sample(t, a.tel.Registry, "alertmanager_config_last_reload_successful"); ok != 0 {
		t.Error("a refused configuration counts as loaded")
	}
	if err := a.Reload(); err != nil { // files only; what was set stays
		t.Fatal(err)
	}
	is("running")
	if err := a.SetConfig(nil); err != nil {
		t.Fatal(err)
	}
	is("ui") // the built-in one
	a.stop()
	if err := a.SetConfig(named("late")); err == nil {
		t.Error("a configuration was taken after the end")
	}
}

func TestFileWinsOverSetConfig(t *testing.T) {
	file := write(t, "alertmanager.yml", "route: {receiver: file}\nreceivers: [{name: file}]\n")
	a := run(t, Config{DataDir: t.TempDir(), NoDefaultRules: true, File: file}, newWorld(t))
	err := a.SetConfig([]byte("route: {receiver: x}\nreceivers: [{name: x}]\n"))
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v: want a refusal that names the file", err)
	}
}
