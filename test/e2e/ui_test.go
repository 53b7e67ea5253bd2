package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestUI opens the page of the running node in Chromium, watches a pod come and
// go without a reload, and saves a picture.
func TestUI(t *testing.T) {
	needsNode(t)
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.WindowSize(1440, 1100))
	alloc, endAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	defer endAlloc()
	ctx, end := chromedp.NewContext(alloc)
	defer end()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(observability+"/")); err != nil {
		t.Fatal(err)
	}
	text := func() string {
		out, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	shows := func(want string, yes bool) {
		t.Helper()
		eventually(t, 30*time.Second, fmt.Sprintf("the page shows %q: %v", want, yes), func() error {
			if got := text(); strings.Contains(got, want) != yes {
				return fmt.Errorf("it says:\n%s", got)
			}
			return nil
		})
	}
	shows("1 of 1 ready", true)
	startSurvivors(t)
	shows("survivor-", true)
	shows("survivors · Deployment/survivor", true)
	// Measured: the row of a running pod has memory.
	eventually(t, 30*time.Second, "a pod's memory", func() error {
		if got := text(); !strings.Contains(got, "MiB") {
			return fmt.Errorf("it says:\n%s", got)
		}
		return nil
	})
	shows("POST /apis/apps/v1/namespaces/{ns}/deployments", true) // its trace
	shows("workload-high", true)                                  // the API's priority levels
	shows("% of 7 GiB", true)                                     // etcd against its quota
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	dir := cmp.Or(os.Getenv("BINNACLE_SCREENSHOTS"), t.TempDir())
	if err := os.WriteFile(filepath.Join(dir, "node.png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
	mustKubectl(t, "-n", "survivors", "scale", "deployment", "survivor", "--replicas=0")
	shows("survivors · Deployment/survivor", false) // its rows; warnings about it stay
}
