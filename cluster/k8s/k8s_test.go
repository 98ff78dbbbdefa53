package k8s

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/pki"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const jobText = "data: /data/mnist\nmodel: mlp:128 # größer wäre besser\nworkers: 4\n"

// certs makes an authority and the certificate of a Job.
func certs(t *testing.T, name string, hosts ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	if err := errors.Join(pki.Init(dir, now), pki.Issue(dir, name, now, hosts...)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func least() Job {
	return Job{Name: "mnist", Image: "registry.example/covey:1", Workers: 1, File: []byte(jobText), Now: now}
}

// decoded is what the API server would read. A key that Kubernetes does not know is an error.
type decoded struct {
	config  *corev1.ConfigMap
	secret  *corev1.Secret
	service *corev1.Service
	job     *batchv1.Job
}

var strict = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), batchv1.AddToScheme(scheme)); err != nil {
		panic(err)
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

func decode(t *testing.T, all []Manifest) (d decoded) {
	t.Helper()
	for _, m := range all {
		o, _, err := strict.Decode(m.YAML, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v\n%s", m.Kind, err, m.YAML)
		}
		switch o := o.(type) {
		case *corev1.ConfigMap:
			d.config = o
		case *corev1.Secret:
			d.secret = o
		case *corev1.Service:
			d.service = o
		case *batchv1.Job:
			d.job = o
		default:
			t.Fatalf("%s is a %T", m.Kind, o)
		}
		if kind := o.GetObjectKind().GroupVersionKind().Kind; kind != m.Kind {
			t.Fatalf("%s says that it is a %s", m.Kind, kind)
		}
	}
	return d
}

// The decoder that the tests trust does refuse what Kubernetes does not know.
func TestDecoderIsStrict(t *testing.T) {
	all, err := Write(least())
	if err != nil {
		t.Fatal(err)
	}
	text := all[len(all)-1].YAML
	for from, to := range map[string]string{"completionMode:": "completionsMode:", "allowPrivilegeEscalation: false": "allowPrivilegeEscalation: \"no\"", "subdomain:": "subDomain:"} {
		bad := bytes.Replace(text, []byte(from), []byte(to), 1)
		if bytes.Equal(bad, text) {
			t.Fatalf("there is no %s in\n%s", from, text)
		}
		if _, _, err := strict.Decode(bad, nil, nil); err == nil {
			t.Errorf("%s passes for %s", to, from)
		}
	}
}

// Every way to write a Job gives objects that Kubernetes knows, that follow its rules, and that say what was asked for.
func TestEveryCombination(t *testing.T) {
	dir := certs(t, "mnist", "*.mnist")
	volumes := []Volume{{}, {Claim: "claim-1"}, {HostPath: "/srv/with blank: and 'quote"}, {Empty: true}}
	n := 0
	for _, data := range volumes {
		for _, runs := range volumes {
			for tls := range 3 {
				for bits := range 16 {
					j := least()
					j.Data, j.Runs = data, runs
					switch tls {
					case 1:
						j.Workers, j.Secret = 4, "existing.secret"
					case 2:
						j.Workers, j.Certs = 4, dir
					}
					if bits&1 != 0 {
						j.Namespace = "training"
					}
					if bits&2 != 0 {
						j.NATS = []string{"nats://n1.example:4222", "n2:4222"}
					}
					if bits&4 != 0 {
						j.CPU, j.Memory = "1500m", "2Gi"
					}
					if bits&8 != 0 {
						j.Grace, j.Deadline, j.Retries, j.Args = 90*time.Second, time.Hour, -1, []string{"--epochs", "3", "yes", "1:30", "a \"b\" \\c: #", "é "}
					}
					all, err := Write(j)
					if err != nil {
						t.Fatalf("%+v: %v", j, err)
					}
					check(t, j, decode(t, all))
					n++
				}
			}
		}
	}
	if n != 768 {
		t.Errorf("%d combinations, expected 768", n)
	}
}

// check holds objects to what the API server demands of them beyond their types, and to each other.
func check(t *testing.T, j Job, d decoded) {
	t.Helper()
	label := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	value := regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`)
	pod := d.job.Spec.Template.Spec
	for _, meta := range []struct {
		name, space string
		labels      map[string]string
	}{
		{d.config.Name, d.config.Namespace, d.config.Labels}, {d.service.Name, d.service.Namespace, d.service.Labels},
		{d.job.Name, d.job.Namespace, d.job.Labels}, {d.job.Name, j.Namespace, d.job.Spec.Template.Labels},
	} {
		if meta.name != j.Name || meta.space != j.Namespace || !label.MatchString(meta.name) || len(meta.name) > 63 {
			t.Errorf("an object is %q in %q", meta.name, meta.space)
		}
		for k, v := range meta.labels {
			if !value.MatchString(v) || len(v) > 63 {
				t.Errorf("label %s: %q", k, v)
			}
		}
	}
	// The job file comes back.
	if got := d.config.Data["job.yaml"] + string(d.config.BinaryData["job.yaml"]); got != string(j.File) {
		t.Errorf("the job file came back as %q", got)
	}
	// Pods are found by the Service's selector, before they are ready, by their own names.
	if d.service.Spec.ClusterIP != "None" || !d.service.Spec.PublishNotReadyAddresses || len(d.service.Spec.Selector) == 0 {
		t.Errorf("the Service is not headless: %+v", d.service.Spec)
	}
	for k, v := range d.service.Spec.Selector {
		if d.job.Spec.Template.Labels[k] != v {
			t.Errorf("the Service selects %s=%s, and pods have %q", k, v, d.job.Spec.Template.Labels[k])
		}
	}
	if pod.Subdomain != d.service.Name {
		t.Errorf("pods are of subdomain %q, the Service is %q", pod.Subdomain, d.service.Name)
	}
	if last := fmt.Sprintf("%s-%d", j.Name, j.Workers-1); len(last) > 63 {
		t.Errorf("host name %s is too long", last)
	}
	checkPolicy(t, j, d.job)
	if len(pod.Containers) != 1 {
		t.Fatalf("%d containers", len(pod.Containers))
	}
	c := pod.Containers[0]
	checkContainer(t, j, pod, c)
	checkVolumes(t, j, d, pod, c)
	// What a pod is told makes a place. Kubernetes adds the index.
	for _, index := range []int{0, j.Workers - 1} {
		p, err := place.Detect(func(name string) string {
			if name == "JOB_COMPLETION_INDEX" {
				return fmt.Sprint(index)
			}
			for _, e := range c.Env {
				if e.Name == name {
					return e.Value
				}
			}
			return ""
		})
		if err != nil || p == nil || p.Rank != index || p.Size != j.Workers || p.Address != j.Name+"-0."+d.service.Name || p.Port != PodPort {
			t.Errorf("pod %d finds its place as %+v, %v", index, p, err)
		}
	}
}

func checkPolicy(t *testing.T, j Job, job *batchv1.Job) {
	t.Helper()
	s := job.Spec
	if *s.CompletionMode != batchv1.IndexedCompletion || *s.Completions != int32(j.Workers) || *s.Parallelism != int32(j.Workers) {
		t.Errorf("%v of %d, %d at a time", *s.CompletionMode, *s.Completions, *s.Parallelism)
	}
	retries := int32(6)
	if j.Retries < 0 {
		retries = 0
	}
	// backoffLimitPerIndex and podFailurePolicy are for Indexed Jobs whose pods are never restarted in place; with the latter
	// pods may be replaced only once they have failed.
	if s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever || *s.BackoffLimitPerIndex != retries || *s.PodReplacementPolicy != batchv1.Failed {
		t.Errorf("restart %s, %d retries, replaced when %s", s.Template.Spec.RestartPolicy, *s.BackoffLimitPerIndex, *s.PodReplacementPolicy)
	}
	if (s.ActiveDeadlineSeconds != nil) != (j.Deadline > 0) || s.ActiveDeadlineSeconds != nil && *s.ActiveDeadlineSeconds != int64(j.Deadline.Seconds()) {
		t.Errorf("deadline %v", s.ActiveDeadlineSeconds)
	}
	var ignored, failing bool
	for _, r := range s.PodFailurePolicy.Rules {
		if (r.OnExitCodes == nil) == (len(r.OnPodConditions) == 0) {
			t.Errorf("a rule is on exit codes or on conditions: %+v", r)
		}
		if r.OnExitCodes != nil {
			codes := r.OnExitCodes.Values
			if !slices.IsSorted(codes) || slices.Contains(codes, 0) || *r.OnExitCodes.ContainerName != s.Template.Spec.Containers[0].Name {
				t.Errorf("exit codes %+v: expected them sorted, without 0, of our container", r.OnExitCodes)
			}
			failing = r.Action == batchv1.PodFailurePolicyActionFailJob && r.OnExitCodes.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && slices.Equal(codes, []int32{2, 3})
		}
		for _, c := range r.OnPodConditions {
			ignored = r.Action == batchv1.PodFailurePolicyActionIgnore && c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && !failing
		}
	}
	if !ignored || !failing {
		t.Errorf("failure policy %+v", s.PodFailurePolicy)
	}
}

func checkContainer(t *testing.T, j Job, pod corev1.PodSpec, c corev1.Container) {
	t.Helper()
	want := []string{"train", "/job/job.yaml", "--run", "/runs/mnist"}
	if j.Secret != "" || j.Certs != "" {
		want = append(want, "--tls", "/certs")
	}
	want = append(want, "--listen", "0.0.0.0:7000")
	if j.NATS != nil {
		want = append(want, "--nats", strings.Join(j.NATS, ","))
	}
	if want = append(want, j.Args...); !slices.Equal(c.Args, want) || !slices.Equal(c.Command, []string{"/usr/local/bin/covey"}) || c.Image != j.Image {
		t.Errorf("runs %s: %q %q\nwant %q", c.Image, c.Command, c.Args, want)
	}
	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	if !maps.Equal(ports, map[string]int32{"covey": 7000, "ops": 9464}) {
		t.Errorf("ports %v", ports)
	}
	for path, p := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path || ports[p.HTTPGet.Port.String()] != 9464 {
			t.Errorf("probe of %s: %+v", path, p)
		}
	}
	s, of := c.SecurityContext, pod.SecurityContext
	if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.Capabilities.Add != nil ||
		!*of.RunAsNonRoot || *of.RunAsUser == 0 || of.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || *pod.AutomountServiceAccountToken {
		t.Errorf("not restricted: %+v, %+v", s, of)
	}
	grace := time.Minute
	if j.Grace > 0 {
		grace = j.Grace
	}
	if *pod.TerminationGracePeriodSeconds != int64(grace.Seconds()) {
		t.Errorf("grace %d s, expected %v", *pod.TerminationGracePeriodSeconds, grace)
	}
	for _, list := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
		if (j.CPU == "") != (len(list) == 0) || j.CPU != "" && (list.Cpu().MilliValue() != 1500 || list.Memory().Value() != 2<<30) {
			t.Errorf("resources %v", list)
		}
	}
}

func checkVolumes(t *testing.T, j Job, d decoded, pod corev1.PodSpec, c corev1.Container) {
	t.Helper()
	at := map[string]corev1.VolumeSource{}
	for _, v := range pod.Volumes {
		i := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v.Name })
		if i < 0 {
			t.Fatalf("volume %s is mounted nowhere", v.Name)
		}
		at[c.VolumeMounts[i].MountPath] = v.VolumeSource
		if writable := !c.VolumeMounts[i].ReadOnly; writable != (v.Name == "runs" || v.Name == "tmp") {
			t.Errorf("volume %s: writable is %v", v.Name, writable)
		}
	}
	if len(at) != len(c.VolumeMounts) {
		t.Errorf("%d mounts of %d volumes", len(c.VolumeMounts), len(at))
	}
	if at["/job"].ConfigMap.Name != d.config.Name || at["/tmp"].EmptyDir == nil {
		t.Errorf("volumes %+v", at)
	}
	secret := j.Secret
	if j.Certs != "" {
		secret = d.secret.Name
		names := slices.Sorted(maps.Keys(d.secret.Data))
		if !slices.Equal(names, []string{"ca.pem", "mnist-key.pem", "mnist.pem"}) {
			t.Errorf("the Secret holds %v", names)
		}
	} else if d.secret != nil {
		t.Error("a Secret that nobody asked for")
	}
	if v := at["/certs"].Secret; (v == nil) != (secret == "") || v != nil && (v.SecretName != secret || *v.DefaultMode != 0o440) {
		t.Errorf("certificates from %+v", v)
	}
	for path, v := range map[string]Volume{"/data": j.Data, "/runs": j.Runs} {
		s, there := at[path]
		ok := true
		switch {
		case v.Claim != "":
			ok = s.PersistentVolumeClaim != nil && s.PersistentVolumeClaim.ClaimName == v.Claim
		case v.HostPath != "":
			ok = s.HostPath != nil && s.HostPath.Path == v.HostPath && *s.HostPath.Type == corev1.HostPathDirectory
		case v.Empty || path == "/runs":
			ok = s.EmptyDir != nil
		default:
			ok = !there
		}
		if !ok {
			t.Errorf("%s is %+v, expected %+v", path, s, v)
		}
	}
}

// The certificates in the Secret are good for every pod, and the authority's key is not among them.
func TestSecretIsLoadable(t *testing.T) {
	j := least()
	j.Workers, j.Certs = 12, certs(t, "mnist", j.Needs()...)
	all, err := Write(j)
	if err != nil {
		t.Fatal(err)
	}
	d := decode(t, all)
	mounted := t.TempDir()
	for name, b := range d.secret.Data {
		if err := os.WriteFile(filepath.Join(mounted, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf, err := pki.Load(mounted, "", now)
	if err != nil {
		t.Fatal(err)
	}
	for r := range j.Workers {
		if err := conf.Certificates[0].Leaf.VerifyHostname(fmt.Sprintf("mnist-%d.mnist", r)); err != nil {
			t.Error(err)
		}
	}
	authority, err := os.ReadFile(filepath.Join(j.Certs, "ca-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range d.secret.Data {
		if bytes.Equal(b, authority) {
			t.Errorf("%s is the authority's key", name)
		}
	}
}

// Names that YAML takes for something else stay names.
func TestNamesThatAreWords(t *testing.T) {
	for _, word := range []string{"yes", "no", "on", "off", "y", "n", "true", "null", "e3", "inf", "nan"} {
		j := least()
		j.Name, j.Namespace, j.Image, j.Runs.Claim = word, word, word, word
		all, err := Write(j)
		if err != nil {
			t.Fatal(err)
		}
		d := decode(t, all)
		if d.job.Name != word || d.job.Namespace != word || d.job.Labels["app.kubernetes.io/instance"] != word || d.job.Spec.Template.Spec.Containers[0].Image != word {
			t.Errorf("%s came back as %+v", word, d.job.ObjectMeta)
		}
	}
	for _, word := range []string{"12", "1e3", "0x1f", "1.5"} {
		j := least()
		j.Workers, j.Secret, j.Runs.Claim = 2, word, word
		all, err := Write(j)
		if err != nil {
			t.Fatal(err)
		}
		decode(t, all)
	}
}

// Whatever bytes a job file holds come to the pod.
func FuzzJobFile(f *testing.F) {
	for _, s := range []string{jobText, "a: b", "a: b\n\n", " a\n", "\ta\n", "a \nb\n", "a\r\nb\n", "|\n", "---\n...\n", "\x00", "\xff\n", "\u2028\n", "# ä: 😀\n", "\ufeffa\n", "#\n  b\n c\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		j := least()
		j.File = file
		all, err := Write(j)
		if err != nil {
			if len(file) == 0 || len(file) > maxFile {
				return
			}
			t.Fatal(err)
		}
		d := decode(t, all)
		if got := d.config.Data["job.yaml"] + string(d.config.BinaryData["job.yaml"]); got != string(file) {
			t.Fatalf("%q came back as %q", file, got)
		}
	})
}
