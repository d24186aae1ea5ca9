// Command chartdump writes the charts that Istio's own module carries into a
// folder, as a release would publish them: with a version, a hub and a tag.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"istio.io/istio/manifests"
)

// The charts a multi-cluster mesh may ask for, by the folder they rest in.
var charts = map[string]string{
	"base":    "charts/base",
	"istiod":  "charts/istio-control/istio-discovery",
	"gateway": "charts/gateway",
	"cni":     "charts/istio-cni",
	"ztunnel": "charts/ztunnel",
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "chartdump FOLDER VERSION HUB TAG")
		os.Exit(2)
	}
	out, version, hub, tag := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	for name, folder := range charts {
		if err := dump(folder, filepath.Join(out, name), version, hub, tag); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			os.Exit(1)
		}
	}
}

func dump(from, to, version, hub, tag string) error {
	return fs.WalkDir(manifests.FS, from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(manifests.FS, path)
		if err != nil {
			return err
		}
		switch strings.TrimPrefix(path, from+"/") {
		case "Chart.yaml":
			body = set(body, "version", version)
			body = set(body, "appVersion", version)
		case "values.yaml":
			body = set(body, "hub", hub)
			body = set(body, "tag", tag)
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, body, 0o644)
	})
}

// set gives a key its value wherever a line of the file sets it to a word.
func set(body []byte, key, value string) []byte {
	line := regexp.MustCompile(`(?m)^(\s*` + key + `:) +[^\s#"]+`)
	return line.ReplaceAll(body, []byte("${1} "+value))
}
