# One mesh over existing clusters: joined on apply, proved, and taken apart again on destroy.
#
# Keys and tokens stay out of Terraform: the provisioners run meshlink, which keeps its keys in its own vault, and the
# data source returns readiness, gateway addresses and a fingerprint. All of it may be read from the state by anyone.

terraform {
  required_version = ">= 1.5"
  required_providers {
    external = { source = "hashicorp/external" }
  }
}

locals {
  names = join(" ", var.clusters)
  flags = join(" ", concat(["--mesh", var.name, "--timeout", var.timeout], var.options))
}

resource "terraform_data" "mesh" {
  # What destroy needs must be in here: by then the variables are gone.
  input = {
    clusters = join(",", var.clusters)
    join     = "${var.meshlink} join ${local.names} --yes ${local.flags}"
    leave    = "${var.meshlink} leave ${local.names} --uninstall --yes ${local.flags}"
  }

  # Other members: join again. A join only does what is missing, so it may run as often as it likes.
  triggers_replace = { clusters = var.clusters, name = var.name }

  provisioner "local-exec" {
    command = self.input.join
  }

  # Load balancers go before the clusters do: depend on the clusters, and nothing is left behind.
  provisioner "local-exec" {
    when    = destroy
    command = self.input.leave
  }
}

data "external" "mesh" {
  program = [var.meshlink, "terraform"]
  query = {
    clusters      = terraform_data.mesh.output.clusters
    mesh          = var.name
    sandbox       = contains(var.options, "--sandbox") ? "true" : "false"
    timeout       = var.status_timeout
    require_ready = var.require_ready ? "true" : "false"
  }
}

check "mesh_ready" {
  assert {
    condition     = data.external.mesh.result.ready == "true"
    error_message = data.external.mesh.result.reason
  }
}
