//go:build integration && gs

package ckpt

import (
	"strings"
	"testing"

	"github.com/covey-ml/covey/internal/storetest"
)

func TestGS(t *testing.T)          { examStore(t, storetest.GS(t)) }
func TestGSLarge(t *testing.T)     { examLarge(t, storetest.GS(t), true, true) }
func TestGSTogether(t *testing.T)  { examTogether(t, storetest.GS(t)) }
func TestGSAbandoned(t *testing.T) { examAbandoned(t, storetest.GS(t)) }

// TestGSRefuses: what cannot work says what would.
func TestGSRefuses(t *testing.T) {
	run := storetest.GS(t)
	if err := Save(StepDir("gs://nowhere/a", 1), sample(1, 1)); err == nil || !strings.Contains(err.Error(), "gs://nowhere") {
		t.Errorf("no such bucket: %v", err)
	}
	if err := CheckPlace("gs://runs/a?region=x"); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("a key that is none: %v", err)
	}
	forgetStores()
	t.Setenv("STORAGE_EMULATOR_HOST", "example.org:80")
	if err := CheckPlace(run); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("in clear, elsewhere: %v", err)
	}
	t.Setenv("STORAGE_EMULATOR_HOST", "")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", t.TempDir()+"/none.json")
	if _, _, err := Latest(run); err == nil || !strings.Contains(err.Error(), "none.json") || !strings.Contains(err.Error(), "gcloud auth") {
		t.Errorf("no credentials: %v", err)
	}
}
