variable "clusters" {
  description = "The members: EKS names, ARNs, region/name, or kubeconfig contexts."
  type        = list(string)
  validation {
    condition     = length(var.clusters) >= 2
    error_message = "A mesh needs at least two clusters."
  }
}

variable "name" {
  description = "Name of the mesh."
  type        = string
  default     = "mesh"
}

variable "timeout" {
  description = "How long a join may wait for anything to become ready."
  type        = string
  default     = "15m"
}

variable "status_timeout" {
  description = "How long the status may take; after that the mesh counts as not ready."
  type        = string
  default     = "20s"
}

variable "require_ready" {
  description = "Fail plan and apply where the mesh is not ready, instead of warning."
  type        = bool
  default     = false
}

variable "options" {
  description = "More flags for meshlink join and leave."
  type        = list(string)
  default     = []
}

variable "meshlink" {
  description = "The meshlink program."
  type        = string
  default     = "meshlink"
}
