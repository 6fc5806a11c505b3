// The factory on Azure Container Apps. It differs from other workers in the duration of a run: up to 60 s.
param name string = 'factory-runs'
param image string
param environmentId string
param release string
param location string = resourceGroup().location

resource app 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  properties: {
    managedEnvironmentId: environmentId
    configuration: {
      activeRevisionsMode: 'single'
    }
    template: {
      revisionSuffix: release
      terminationGracePeriodSeconds: 80
      containers: [
        {
          name: 'worker'
          image: image
          env: [
            { name: 'OTEL_SERVICE_NAME', value: name }
            { name: 'FACTORY_TIMEOUT', value: '60' }
            { name: 'CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD', value: '80' }
            { name: 'OTEL_RESOURCE_ATTRIBUTES', value: 'service.version=${release}' }
          ]
          probes: [
            { type: 'Startup', httpGet: { path: '/health/startup', port: 9464, scheme: 'HTTP' }, initialDelaySeconds: 1, periodSeconds: 6, timeoutSeconds: 2, failureThreshold: 10 }
            { type: 'Readiness', httpGet: { path: '/health/ready', port: 9464, scheme: 'HTTP' }, periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 2, successThreshold: 1 }
            { type: 'Liveness', httpGet: { path: '/health/live', port: 9464, scheme: 'HTTP' }, periodSeconds: 10, timeoutSeconds: 2, failureThreshold: 3 }
          ]
        }
      ]
      scale: { minReplicas: 2, maxReplicas: 10 }
    }
  }
}
