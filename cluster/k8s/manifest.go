package k8s

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/pki"
)

// Manifest is one object, as kubectl apply takes it.
type Manifest struct {
	Kind, Name string
	YAML       []byte
}

// YAML puts objects into one stream.
func YAML(all []Manifest) []byte {
	var b bytes.Buffer
	for i, m := range all {
		if i > 0 {
			b.WriteString("---\n")
		}
		b.Write(m.YAML)
	}
	return b.Bytes()
}

// Write makes a job's objects, in the order in which they are needed.
func Write(j Job) ([]Manifest, error) {
	j, err := j.validate()
	if err != nil {
		return nil, err
	}
	objects := mapping{{"ConfigMap", j.configMap()}}
	if j.Certs != "" {
		body, err := j.secret()
		if err != nil {
			return nil, err
		}
		objects = objects.with("Secret", body)
		j.Secret = j.Name
	}
	objects = objects.with("Service", j.service()).with("Job", j.job())
	var all []Manifest
	for _, o := range objects {
		text, err := marshal(o.value.(mapping))
		if err != nil {
			return nil, fmt.Errorf("k8s: writing a %s: %w", o.key, err)
		}
		all = append(all, Manifest{o.key, j.Name, text})
	}
	return all, nil
}

func (j Job) labels() mapping {
	return mapping{
		{"app.kubernetes.io/name", "covey"},
		{"app.kubernetes.io/instance", j.Name},
		{"app.kubernetes.io/managed-by", "covey"},
	}
}

func (j Job) metadata() mapping {
	m := mapping{{"name", j.Name}}
	if j.Namespace != "" {
		m = m.with("namespace", j.Namespace)
	}
	return m.with("labels", j.labels())
}

func (j Job) head(version, kind string) mapping {
	return mapping{{"apiVersion", version}, {"kind", kind}, {"metadata", j.metadata()}}
}

// configMap holds the job file: as text when that comes back as it was, else as bytes.
func (j Job) configMap() mapping {
	m := j.head("v1", "ConfigMap")
	if plainText(j.File) {
		return m.with("data", mapping{{jobKey, string(j.File)}})
	}
	return m.with("binaryData", mapping{{jobKey, base64.StdEncoding.EncodeToString(j.File)}})
}

// plainText tells whether a YAML block keeps a text as it is.
func plainText(b []byte) bool {
	if !utf8.Valid(b) || bytes.HasPrefix(b, []byte(" ")) || !bytes.HasSuffix(b, []byte("\n")) || bytes.HasSuffix(b, []byte("\n\n")) || b[0] == '\n' || bytes.Contains(b, []byte(" \n")) {
		return false
	}
	for _, r := range string(b) {
		if r != '\n' && !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// secret holds the cluster's certificate, the pods' and its key. The authority's key stays where it is.
func (j Job) secret() (mapping, error) {
	conf, err := pki.Load(j.Certs, j.Node, j.Now)
	if err != nil {
		return nil, &Error{"tls", err}
	}
	leaf := conf.Certificates[0].Leaf
	for _, r := range []int{0, j.Workers - 1} {
		if host := fmt.Sprintf("%s-%d.%[1]s", j.Name, r); leaf.VerifyHostname(host) != nil {
			return nil, errorf("tls", "the certificate of %s in %s is not for %s, as which a pod is dialled: make one with covey ca issue %s NAME %s, and give --node NAME",
				j.Node, j.Certs, host, j.Certs, strings.Join(quoteAll(j.Needs()), " "))
		}
	}
	data := mapping{}
	for _, file := range []string{"ca.pem", j.Node + ".pem", j.Node + "-key.pem"} {
		b, err := os.ReadFile(filepath.Join(j.Certs, file))
		if err != nil {
			return nil, &Error{"tls", err}
		}
		data = data.with(file, base64.StdEncoding.EncodeToString(b))
	}
	return j.head("v1", "Secret").with("type", "Opaque").with("data", data), nil
}

// service gives each pod a name. Pods need their names to become ready, so it lists those that are not.
func (j Job) service() mapping {
	return j.head("v1", "Service").with("spec", mapping{
		{"clusterIP", "None"},
		{"publishNotReadyAddresses", true},
		{"selector", mapping{{"app.kubernetes.io/name", "covey"}, {"app.kubernetes.io/instance", j.Name}}},
		{"ports", list{
			mapping{{"name", "covey"}, {"port", PodPort}, {"targetPort", "covey"}},
			mapping{{"name", "ops"}, {"port", OpsPort}, {"targetPort", "ops"}},
		}},
	})
}

func (j Job) job() mapping {
	s := mapping{
		{"completionMode", "Indexed"},
		{"completions", j.Workers},
		{"parallelism", j.Workers},
		// A pod's failures are its own, and a pod that the cluster took away has not failed. A bad job or bad data is the same
		// for a new pod.
		{"backoffLimitPerIndex", j.Retries},
		{"podReplacementPolicy", "Failed"}, // never two pods of one rank at the same time
		{"podFailurePolicy", mapping{{"rules", list{
			mapping{{"action", "Ignore"}, {"onPodConditions", list{mapping{{"type", "DisruptionTarget"}, {"status", text("True")}}}}},
			mapping{{"action", "FailJob"}, {"onExitCodes", mapping{{"containerName", "covey"}, {"operator", "In"}, {"values", list{2, 3}}}}},
		}}}},
	}
	if j.Deadline > 0 {
		s = s.with("activeDeadlineSeconds", seconds(j.Deadline))
	}
	return j.head("batch/v1", "Job").with("spec", s.with("template", j.template()))
}

func (j Job) template() mapping {
	volumes, mounts := j.volumes()
	container := mapping{
		{"name", "covey"},
		{"image", text(j.Image)},
		{"command", list{binary}},
		{"args", j.args()},
		{"env", list{
			mapping{{"name", place.EnvWorkers}, {"value", text(strconv.Itoa(j.Workers))}},
			mapping{{"name", place.EnvService}, {"value", text(j.Name)}},
			mapping{{"name", place.EnvJob}, {"value", text(j.Name)}},
			mapping{{"name", EnvOps}, {"value", text(fmt.Sprintf("0.0.0.0:%d", OpsPort))}},
		}},
		{"ports", list{
			mapping{{"name", "covey"}, {"containerPort", PodPort}},
			mapping{{"name", "ops"}, {"containerPort", OpsPort}},
		}},
		{"readinessProbe", probe("/readyz", 5, 3)},
		{"livenessProbe", probe("/healthz", 10, 6)},
	}
	if r := j.resources(); r != nil {
		container = container.with("resources", mapping{{"requests", r}, {"limits", r}})
	}
	container = container.
		with("securityContext", mapping{
			{"allowPrivilegeEscalation", false},
			{"readOnlyRootFilesystem", true},
			{"capabilities", mapping{{"drop", list{"ALL"}}}},
		}).
		with("terminationMessagePolicy", "FallbackToLogsOnError").
		with("volumeMounts", mounts)
	return mapping{
		{"metadata", mapping{
			{"labels", j.labels()},
			{"annotations", mapping{
				{"prometheus.io/scrape", text("true")},
				{"prometheus.io/port", text(strconv.Itoa(OpsPort))},
				{"prometheus.io/path", "/metrics"},
			}},
		}},
		{"spec", mapping{
			{"subdomain", j.Name}, // with it, a pod of the Service has a name of its own: NAME-INDEX.NAME
			{"restartPolicy", "Never"},
			{"terminationGracePeriodSeconds", seconds(j.Grace)},
			{"automountServiceAccountToken", false},
			{"enableServiceLinks", false},
			{"securityContext", mapping{
				{"runAsNonRoot", true},
				{"runAsUser", user},
				{"runAsGroup", user},
				{"fsGroup", user},
				{"fsGroupChangePolicy", "OnRootMismatch"},
				{"seccompProfile", mapping{{"type", "RuntimeDefault"}}},
			}},
			{"containers", list{container}},
			{"volumes", volumes},
		}},
	}
}

// args are the command line of a worker.
func (j Job) args() list {
	args := list{"train", jobFolder + "/" + jobKey, "--run", runsFolder + "/" + j.Name}
	if j.Secret != "" {
		args = append(args, "--tls", certFolder)
	}
	args = append(args, "--listen", text(fmt.Sprintf("0.0.0.0:%d", PodPort)))
	if len(j.NATS) > 0 {
		args = append(args, "--nats", text(strings.Join(j.NATS, ",")))
	}
	for _, a := range j.Args {
		args = append(args, text(a))
	}
	return args
}

func (j Job) resources() mapping {
	var r mapping
	if j.CPU != "" {
		r = r.with("cpu", text(j.CPU))
	}
	if j.Memory != "" {
		r = r.with("memory", text(j.Memory))
	}
	return r
}

func (j Job) volumes() (volumes, mounts list) {
	add := func(name, at string, readOnly bool, source mapping) {
		volumes = append(volumes, append(mapping{{"name", name}}, source...))
		m := mapping{{"name", name}, {"mountPath", at}}
		if readOnly {
			m = m.with("readOnly", true)
		}
		mounts = append(mounts, m)
	}
	add("job", jobFolder, true, mapping{{"configMap", mapping{{"name", j.Name}}}})
	if j.Secret != "" {
		// Readable by the group, which the pod's user is in.
		add("certs", certFolder, true, mapping{{"secret", mapping{{"secretName", text(j.Secret)}, {"defaultMode", 0o440}}}})
	}
	if j.Data != (Volume{}) {
		add("data", dataFolder, true, j.Data.source())
	}
	runs := j.Runs
	if runs == (Volume{}) {
		runs.Empty = true
	}
	add("runs", runsFolder, false, runs.source())
	add("tmp", "/tmp", false, Volume{Empty: true}.source())
	return volumes, mounts
}

func (v Volume) source() mapping {
	switch {
	case v.Claim != "":
		return mapping{{"persistentVolumeClaim", mapping{{"claimName", text(v.Claim)}}}}
	case v.HostPath != "":
		return mapping{{"hostPath", mapping{{"path", text(v.HostPath)}, {"type", "Directory"}}}}
	}
	return mapping{{"emptyDir", mapping{}}}
}

func probe(path string, period, failures int) mapping {
	return mapping{
		{"httpGet", mapping{{"path", path}, {"port", "ops"}}},
		{"periodSeconds", period},
		{"timeoutSeconds", 3},
		{"failureThreshold", failures},
	}
}

func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
