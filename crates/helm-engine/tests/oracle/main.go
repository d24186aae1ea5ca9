// The oracle renders charts with Helm's own engine, many per run, so that ours can be compared with it.
//
//	oracle charts DIR   writes the official charts, and the version each is given, into DIR
//	oracle render       reads cases from standard input, one JSON object per line, and answers in kind
//	oracle record       reads a release record as its Secret holds it, and writes it back as Helm would
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	release "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"istio.io/istio/manifests"
)

// A case to render. Values are YAML text, read as `helm template -f` reads them.
type request struct {
	Chart       string `json:"chart"`
	Values      string `json:"values"`
	Name        string `json:"name"`
	Namespace   string `json:"namespace"`
	IsUpgrade   bool   `json:"is_upgrade"`
	KubeVersion string `json:"kube_version"`
}

type answer struct {
	Manifest string `json:"manifest"`
	Notes    string `json:"notes"`
	Hooks    int    `json:"hooks"`
	Error    string `json:"error,omitempty"`
}

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "charts":
		err = writeCharts(os.Args[2])
	case len(os.Args) == 2 && os.Args[1] == "render":
		err = renderAll()
	case len(os.Args) == 2 && os.Args[1] == "record":
		err = rewriteRecord()
	default:
		err = fmt.Errorf("usage: oracle charts DIR | oracle render | oracle record")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func writeCharts(dir string) error {
	places := map[string]string{
		"base": "charts/base", "istiod": "charts/istio-control/istio-discovery", "gateway": "charts/gateway",
		"cni": "charts/istio-cni", "ztunnel": "charts/ztunnel",
	}
	for name, place := range places {
		source, err := fs.Sub(manifests.FS, place)
		if err != nil {
			return err
		}
		err = fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := fs.ReadFile(source, path)
			if err != nil {
				return err
			}
			target := filepath.Join(dir, name, path)
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			return os.WriteFile(target, data, 0o644)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func renderAll() error {
	charts := map[string]*chart.Chart{}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	decoder := json.NewDecoder(lines)
	for decoder.More() {
		var asked request
		if err := decoder.Decode(&asked); err != nil {
			return err
		}
		loaded, ok := charts[asked.Chart]
		if !ok {
			var err error
			if loaded, err = loader.Load(asked.Chart); err != nil {
				return err
			}
			charts[asked.Chart] = loaded
		}
		given, err := render(loaded, asked)
		if err != nil {
			given = answer{Error: err.Error()}
		}
		if err := encoder.Encode(given); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// rewriteRecord reads and writes a record with Helm's own types, which refuse what Helm would not understand.
func rewriteRecord() error {
	packed, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, os.Stdin))
	if err != nil {
		return err
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	var record release.Release
	if err := json.NewDecoder(unzipped).Decode(&record); err != nil {
		return err
	}
	if err := record.Chart.Validate(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s %d %s %s-%s %s\n", record.Name, record.Version, record.Info.Status, record.Chart.Name(), record.Chart.Metadata.Version, record.Info.LastDeployed.UTC().Format("2006-01-02T15:04:05Z"))
	out := base64.NewEncoder(base64.StdEncoding, os.Stdout)
	zipped := gzip.NewWriter(out)
	if err := json.NewEncoder(zipped).Encode(&record); err != nil {
		return err
	}
	if err := zipped.Close(); err != nil {
		return err
	}
	return out.Close()
}

func render(loaded *chart.Chart, asked request) (answer, error) {
	user, err := loader.LoadValues(strings.NewReader(asked.Values))
	if err != nil {
		return answer{}, err
	}
	if len(loaded.Dependencies()) > 0 {
		// Choosing dependencies changes the chart; a fresh one is loaded for every case.
		if loaded, err = loader.Load(asked.Chart); err != nil {
			return answer{}, err
		}
		if err := chartutil.ProcessDependencies(loaded, user); err != nil {
			return answer{}, err
		}
	}
	capabilities := common.DefaultCapabilities.Copy()
	version, err := common.ParseKubeVersion(asked.KubeVersion)
	if err != nil {
		return answer{}, err
	}
	capabilities.KubeVersion = *version
	options := common.ReleaseOptions{Name: asked.Name, Namespace: asked.Namespace, Revision: 1, IsInstall: !asked.IsUpgrade, IsUpgrade: asked.IsUpgrade}
	values, err := commonutil.ToRenderValuesWithSchemaValidation(loaded, user, options, capabilities, true)
	if err != nil {
		return answer{}, err
	}
	files, err := new(engine.Engine).RenderWithContext(context.Background(), loaded, values)
	if err != nil {
		return answer{}, err
	}
	given := answer{}
	for name, text := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			if name == loaded.Name()+"/templates/NOTES.txt" {
				given.Notes = text
			}
			delete(files, name)
		}
	}
	hooks, sorted, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return answer{}, err
	}
	given.Hooks = len(hooks)
	var manifest strings.Builder
	for _, one := range sorted {
		fmt.Fprintf(&manifest, "---\n# Source: %s\n%s\n", one.Name, one.Content)
	}
	given.Manifest = manifest.String()
	return given, nil
}
